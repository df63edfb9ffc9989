"""The paper's figures, one module each: `compute` -> numbers, `draw` them on axes, `caption`, `figure`.

May import `drawing`, `numbers` and the rooms below; neither `beyond` nor `paper`.
Each module hands out NAME (of its files), TITLE, `compute(sweeps)`, `figure(numbers)` and `caption(numbers)`.
"""
