"""Figures that the paper does not have, one module each, of the same form as those in `figures`.

May import `drawing`, `numbers` and the rooms below; neither `figures` nor `paper`.
Each module hands out NAME (of its files), TITLE, `compute(sweeps)`, `figure(numbers)` and `caption(numbers)`;
`heat_maps` draws two figures, by name.
"""
