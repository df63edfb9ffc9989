"""Figures, tables and a page from a sweep's Parquet files alone: `python -m analysis --sweep runs/demo`.

Imports neither spd_ray, torch, ray nor mlflow, so that it runs on a laptop on files fetched from a cluster.
"""
