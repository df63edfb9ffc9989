"""The paper's figures, tables and claims from sweeps' Parquet files alone: `python -m analysis --runs runs`.

Imports neither spd_ray, torch, ray nor mlflow, so it runs on a laptop on files fetched from a cluster. Needs what the
extra `analysis` lists; the importances alone need optuna and scikit-learn, and are left out without them.

A room imports only from rooms further down:

    __main__            the command
    page                the report: the order of its figures, its tables, index.html
    paper               printed values, verdicts on the paper's claims, Tables 1 and 2
    figures, beyond     one module per figure: the paper's, and others
    drawing             colours, lines and captions that figures share
    numbers             which trials compare; intervals over seeds; curves and scores by value
    wording             numbers, lists and names in running text
    reading             a folder or URI, a sweep, a trial, an evaluation
    errors              what can go wrong, for the user
"""
