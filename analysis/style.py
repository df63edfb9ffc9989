"""What all figures share: colours (one thing, one colour), marks, wording and the writing of PNG and SVG.

The colours are Okabe and Ito's, which the colour-blind tell apart; in print, line styles and markers do.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.tables import Setting

matplotlib.use("Agg")

INK = "#222222"
DEV = "#0072B2"  # blue
TRAIN = "#E69F00"  # orange
TEACHER = "#000000"
PRUNING = "#CC79A7"  # reddish purple
STAGE1_END = "#D55E00"  # vermillion, the paper's red
STAGE2_END = "#009E73"  # bluish green, the paper's green

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
WIDTH = 5.0  # inches; at this width the smallest text is still read on a phone

METRICS = {  # name of the metric -> its name in text, its range
    "accuracy": ("accuracy", "0 to 1"),
    "f1": ("F1", "0 to 1"),
    "matthews": ("Matthews correlation", "−1 to 1"),
    "spearman": ("Spearman correlation", "−1 to 1"),
}


def metric_name(metric: str) -> str:
    """The metric's name in running text.

    >>> metric_name("f1")
    'F1'
    """
    return METRICS[metric][0] if metric in METRICS else metric


def metric_label(metrics: Iterable[str]) -> str:
    """The label of a score axis with its range.

    >>> metric_label(["accuracy"])
    'accuracy (0 to 1)'
    """
    return " / ".join(f"{metric_name(metric)} ({METRICS.get(metric, ('', '−1 to 1'))[1]})" for metric in metrics)


def listing(values: Iterable[object]) -> str:
    """Values for running text.

    >>> listing([0, 1, 2]), listing([0.9])
    ('0, 1 and 2', '0.9')
    """
    texts = [str(value) for value in values]
    return " and ".join([", ".join(texts[:-1]), texts[-1]]) if len(texts) > 1 else "".join(texts)


def plural(count: int, noun: str) -> str:
    """The count with its noun.

    >>> plural(1, "seed"), plural(3, "seed")
    ('1 seed', '3 seeds')
    """
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def short_rate(value: float) -> str:
    """A learning rate, short.

    >>> short_rate(3.2e-4), short_rate(0.003)
    ('3.2e-4', '3e-3')
    """
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def task_names(setting: Setting) -> str:
    """The tasks; the miniature's are named synthetic wherever they are named at all."""
    note = " (synthetic miniature, not GLUE)"
    return listing(task + note * task.startswith("mini_") for task in setting.tasks)


def trial_name(trial_id: str, status: str) -> str:
    """A trial in running text; its status is named unless it ran to its end.

    >>> trial_name("3-s0", "stopped")
    'trial 3-s0 (stopped)'
    """
    return f"trial {trial_id}" if status == "finished" else f"trial {trial_id} ({status})"


def describe(setting: Setting) -> str:
    """The sentence on task, model, sparsity, seeds and metric with which each caption goes on."""
    return (
        f"Task {task_names(setting)}; model {listing(setting.models)}; "
        f"target sparsity {listing(f'{sparsity:g}' for sparsity in setting.sparsities)}; "
        f"{'seed' if len(setting.seeds) == 1 else 'seeds'} {listing(setting.seeds)}; "
        f"metric {listing(map(metric_name, setting.metrics))}."
    )


def title(setting: Setting) -> str:
    """The line above a picture, so that a picture alone still says what it is of."""
    sparsities = [f"{sparsity:g}" for sparsity in setting.sparsities]
    span = sparsities[0] if len(sparsities) == 1 else f"{sparsities[0]} to {sparsities[-1]}"
    return f"{task_names(setting)}, sparsity {span}"


def mark_stages(axes: Axes, t1: int | None, t2: int | None, end: int, named: bool) -> None:
    """Dashed lines at the ends of Stages I and II (steps); where `named`, the stages' names above the axes.

    Sets the x limits to [0, end]. A stage that has not ended (None) has no line.
    """
    axes.set_xlim(0, end)
    for step, colour, label in ((t1, STAGE1_END, "end of Stage I"), (t2, STAGE2_END, "end of Stage II")):
        if step is not None:
            axes.axvline(step, color=colour, linestyle=(0, (5, 2.5)), linewidth=1.2, label=label, zorder=1)
    if not named:
        return
    bounds = [0, t1 if t1 is not None else end, t2 if t2 is not None else end, end]
    for name, left, right in zip(("I", "II", "III"), bounds, bounds[1:], strict=False):
        share = (right - left) / end
        if share > 0.04:
            text = f"Stage {name}" if share > 0.13 else name
            axes.annotate(
                text, ((left + right) / 2, 1), (0, 3), ("data", "axes fraction"), "offset points", ha="center"
            )


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
