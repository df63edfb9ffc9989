"""The paper's figures, tables and claims from sweeps' Parquet files alone: `python -m analysis --runs runs`.

Imports neither spd_ray, torch, ray nor mlflow, so that it runs on a laptop on files fetched from a cluster. Needs
numpy, pyarrow and matplotlib; the importances need optuna and scikit-learn, and are left out without them.

    folders, tables, trials     reading: a folder or URI, a sweep, a trial
    sources, statistics         which sweep a figure takes, which trials compare; intervals over seeds
    fig02 ... fig13_to_16       one module a figure: compute -> numbers, draw, caption
    curves, gaps, pareto, depth, heat, importances, marginals, hours    beyond the paper
    overtime, sensitivity, grids, spaces    what several figures share
    paper, scoreboard           the printed values; Tables 1 and 2
    claims, late_rise, schedule_check       the paper's claims held against the data
    style, words, captions      colours, wording
    panels, listings, sheets, page_assets, report, __main__    the page and the command
"""
