"""Figures that the paper does not have, one module each, of the same form as those in `figures`.

May import `drawing`, `numbers` and the rooms below; neither `figures` nor `paper`.
Each module hands out NAME (of its files), TITLE, `compute(sweeps)`, `figure(numbers)` and `caption(numbers)`;
Two of them draw several figures, by name. An artist's gid from `leaderboard.run_key` makes the page light
it up with everything else of its configuration.
"""
