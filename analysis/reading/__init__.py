"""Reading of sweeps: folders and URIs, the Parquet files in them, their trials and the tasks these are of.

May import nothing of `analysis` but its errors. This room alone opens the files of a sweep, and it alone knows the
schema's versions: every other room sees the newest form.
Hands out `Sweep` (`sweeps.read_sweep`, `sweeps.read_sweeps`), its trials and its evaluations.
"""
