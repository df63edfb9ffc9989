"""The driver of a sweep: it opens the folder, lets Ray Tune run the trials, and reports to MLflow and screen.

May import everything below; `students` alone draws with analysis. Hands out `start_sweep`, the one way in of the
command and of `spd_ray.run_sweep`. It is the one writer of MLflow, of the study and of trials.parquet.
"""
