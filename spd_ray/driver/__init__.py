"""The driver of a sweep: it opens the folder, lets Ray Tune run the trials, and reports to MLflow and screen.

May import everything below; `mlflow_store` alone imports MLflow, `summary` alone draws with analysis. Hands out
`run_sweep`. It is the one writer of MLflow, of the study and of trials.parquet.
"""
