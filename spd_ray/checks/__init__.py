"""Is this machine, or cluster, fit for this sweep? Each check is one finding: level, what was seen, how to mend it.

May import the rooms below driver (of trials what one takes up). Hands out the doctor's list and a sweep's preflight
(`examination`): of this machine (`environment`), of every node of a cluster (`nodes`), of the model and the task
(`untrained`, `model_fit`, `room`). Nothing heavy is imported before versions are checked.
"""
