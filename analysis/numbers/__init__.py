"""Numbers without ink: which trials a figure compares, estimates with intervals, curves and scores by value.

May import `wording` and `reading`; nothing here knows matplotlib.
Hands out NamedTuples of arrays whose shapes are in their docstrings, for figures, claims and tables alike.
"""
