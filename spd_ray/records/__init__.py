"""What a sweep leaves on disk: its files, their schemas, where they lie, and what they came from.

May import config, equations (for the names of loss terms) and base. Hands out `StepRecord` and `TrialRecord` with
their Parquet schemas, the store of trials, the paths of a sweep's folder, `SweepStorage` (a folder or an object
store) and `sweep.yaml`. The analysis reads these files and nothing else.
"""
