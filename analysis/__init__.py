"""The paper's figures, tables and claims from sweeps' Parquet files alone: `python -m analysis --runs runs`.

Imports neither spd_ray, torch, ray nor mlflow, so that it runs on a laptop on files fetched from a cluster. Needs
numpy, pyarrow and matplotlib; the importances need optuna and scikit-learn, and are left out without them.

A room imports only from the rooms above its own line:

    errors              what can go wrong, for the user
    reading             a folder or URI, a sweep, a trial
    wording             numbers, lists and names in running text
    numbers             which trials compare; intervals over seeds; curves and scores by value
    drawing             colours, lines and captions that figures share
    figures, beyond     one module a figure: the paper's, and others
    paper               printed values, claims, Tables 1 and 2
    page                the report: the order of its figures, its tables, index.html
    __main__            the command
"""
