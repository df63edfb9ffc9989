"""The report: every figure in its order, tables as data, index.html, claims.md and tables.md.

May import every other room; only the command `python -m analysis` imports it.
Hands out `html.page(contents)` and the list of figures.
"""
