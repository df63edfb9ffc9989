"""Numbers without ink: which trials a figure compares, estimates with intervals, curves and scores by value.

May import `wording` and `reading`; nothing here knows matplotlib.
Hands out NamedTuples of arrays, shapes and units in their docstrings, for figures, claims and tables alike:
`figure_data.choose_data` picks the trials, `statistics.bootstrap` estimates, `over_steps` and `score_by_value` collect.
"""
