"""The driver of a sweep: it opens the folder, lets Ray Tune run what the ledger has due, and tells everyone.

May import everything below; `tracking` alone imports MLflow, `summary` alone draws with analysis. Hands out
`run_sweep`. It is the one writer of MLflow, of the study and of trials.parquet.
"""
