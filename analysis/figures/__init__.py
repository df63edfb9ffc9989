"""The paper's figures, one module each: `compute` the numbers, `draw` them on axes, `caption`, `figure`.

May import `drawing`, `numbers` and the rooms below; neither `beyond` nor `paper`.
Each module hands out NAME (of its files), TITLE, `compute(sweeps)`, `figure(numbers)` and `caption(numbers)`;
Figures 10 to 12 share the form in `grid`, Figures 13 to 16 one module.
"""
