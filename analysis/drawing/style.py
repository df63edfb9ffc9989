"""What all figures share: colours (one thing, one colour), marks, pictures with their title, and writing PNG and SVG.

The colours are Okabe and Ito's (Color Universal Design, 2008), which colour-blind readers can tell apart; in print,
line styles and markers tell them apart.
"""

import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from analysis.drawing.captions import picture_title
from analysis.reading.trials import Setting

matplotlib.use("Agg")

INK = "#222222"
DEV = "#0072B2"  # blue
TRAIN = "#E69F00"  # orange
TEACHER = "#000000"
PRUNING = "#CC79A7"  # reddish purple
STAGE1_END = "#D55E00"  # vermillion, the paper's red
STAGE2_END = "#009E73"  # bluish green, the paper's green

METHODS = {  # method -> its colour (Tol's muted scheme) and its marker
    "spd": ("#332288", "o"),
    "kd_only": ("#44AA99", "s"),
    "progressive_only": ("#999933", "^"),
    "finetune_prune": ("#882255", "D"),
}
_OTHER_METHODS = (("#CC6677", "v"), ("#88CCEE", "P"), ("#117733", "X"), ("#DDCC77", "<"), ("#AA4499", ">"))
SPD = METHODS["spd"][0]
ALTERNATIVE = "#CC6677"  # the strategy with which SPD's own is compared
GREY = "#767676"

RC: Any = {  # the keys are literals to the type checker
    "font.size": 9.0,
    "axes.titlesize": 9.0,
    "axes.labelsize": 9.0,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "legend.fontsize": 8.0,
    "legend.frameon": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.formatter.use_mathtext": True,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "lines.linewidth": 1.6,
    "savefig.dpi": 200,
    "svg.hashsalt": "spd_ray",  # the same numbers give the same SVG
}
WIDTH = 5.0  # inches; at this width the smallest text is still legible on a phone
MARKERS = "osD^vP<>X*"


def method_mark(method: str) -> tuple[str, str]:
    """Colour and marker of a method, the same in every figure; unknown ones by a hash of their name."""
    if method in METHODS:
        return METHODS[method]
    return _OTHER_METHODS[zlib.crc32(method.encode()) % len(_OTHER_METHODS)]


def ramp(count: int) -> list[str]:
    """Colours for `count` ascending values, dark to light: cividis, whose order survives colour blindness and print."""
    colours = matplotlib.colormaps["cividis"](np.linspace(0.0, 0.85, max(count, 1)))
    return [to_hex(colour) for colour in colours]


def mark_stages(axes: Axes, t1: int | None, t2: int | None, end: int, named: bool) -> None:
    """Dashed lines at the ends of Stages I and II (steps); where `named`, the stages' names above the axes.

    Sets the x limits to [0, end]. An end that is not known, or not the same for all trials (None), has no line, and the
    stages that it bounds have no name.
    """
    axes.set_xlim(0, end)
    for step, colour, label in ((t1, STAGE1_END, "end of Stage I"), (t2, STAGE2_END, "end of Stage II")):
        if step is not None:
            axes.axvline(step, color=colour, linestyle=(0, (5, 2.5)), linewidth=1.2, label=label, zorder=1)
    if not named:
        return
    for name, left, right in (("I", 0, t1), ("II", t1, t2), ("III", t2, end)):
        if left is None or right is None:
            continue
        share = (right - left) / end
        if share > 0.04:
            text = f"Stage {name}" if share > 0.13 else name
            axes.annotate(
                text, ((left + right) / 2, 1), (0, 3), ("data", "axes fraction"), "offset points", ha="center"
            )


def mark_teachers(axes: Axes, scores: Sequence[float]) -> None:
    """A dash-dotted line at the dev score of each dense teacher, at most three."""
    for score in scores[:3]:
        mark_teacher(axes, score, f"dense teacher, {score:.3f}")


def mark_teacher(axes: Axes, score: float, label: str) -> None:
    """A dash-dotted line at the dense teacher's dev score."""
    axes.axhline(score, color=TEACHER, linestyle=(0, (6, 2, 1, 2)), linewidth=1.1, label=label)


def save(figure: Figure, stem: Path, caption: str) -> list[Path]:
    """Write `stem`.png and `stem`.svg, the caption in their metadata; returns the two paths."""
    png, svg = stem.with_suffix(".png"), stem.with_suffix(".svg")
    with matplotlib.rc_context(RC):
        figure.savefig(png, metadata={"Description": caption})
        figure.savefig(svg, metadata={"Description": caption, "Date": None})
    return [png, svg]


def compose(setting: Setting, height: float, draw: Callable[[list[Axes]], None], rows: int = 1, columns: int = 1,
            legend: int = 0, **subplots: Any) -> Figure:  # fmt: skip
    """A picture `height` inches high with its title; `draw` is given its axes, row by row.

    `legend`: the columns of one legend below the picture, 0 for none; `subplots`: passed to `Figure.subplots`.
    """
    with matplotlib.rc_context(RC):
        picture = Figure(figsize=(WIDTH, height), layout="constrained")
        picture.suptitle(picture_title(setting), fontsize=9)
        draw(list(picture.subplots(rows, columns, squeeze=False, **subplots).ravel()))
        if legend:
            add_legend(picture, legend)
    return picture


def add_legend(picture: Figure, columns: int = 4) -> None:
    """One legend below the picture, each label once."""
    entries: dict[str, Any] = {}
    for axes in picture.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    picture.legend(
        list(entries.values()), list(entries), loc="outside lower center", ncols=columns, handlelength=2.4,
        columnspacing=1.4,
    )  # fmt: skip
