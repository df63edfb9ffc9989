"""The report: leaderboard, every figure in its order, tables as data; the files index.html, claims.md and tables.md.

May import every other room; the command `python -m analysis` imports it, and spd_ray for its students' pages in MLflow.
Hands out `report.write_report(contents, figures)`. The page is one template, `page.html.j2`, with its style and script
in files of their own; all three are written into one self-contained index.html.
"""
