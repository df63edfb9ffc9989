"""Reading of sweeps: folders and URIs, the Parquet files in them, trials and the tasks that they are of.

May import nothing of `analysis` but its errors; this room alone opens files of a sweep.
Hands out `Sweep` (`sweeps.read_sweep`, `sweeps.read_sweeps`), its trials and its evaluations.
"""
