"""What every room may use: errors, progress, files, the cache, addresses, the Ray cluster.

May import nothing of spd_ray. Hands out `UserError` (one line, exit code 2), `progress_bar`, journals of JSON lines,
content-addressed folders that are whole whenever they are visible, and `join_ray`.
"""
