"""Is this machine, or this cluster, fit for a sweep? Each check is one finding: a level, what was seen, how to mend it.

May import records and base, and the rooms below trials where a check runs a model. Hands out the checks of this
machine (`environment`) and of every node of a Ray cluster (`nodes`). Nothing heavy is imported before versions are
checked.
"""
