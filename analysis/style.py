"""What all figures share: colours (one thing, one colour), marks, wording and the writing of PNG and SVG.

The colours are Okabe and Ito's, which the colour-blind tell apart; in print, line styles and markers do.
"""

import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from analysis.statistics import Estimate
from analysis.trials import Setting

matplotlib.use("Agg")

INK = "#222222"
DEV = "#0072B2"  # blue
TRAIN = "#E69F00"  # orange
TEACHER = "#000000"
PRUNING = "#CC79A7"  # reddish purple
STAGE1_END = "#D55E00"  # vermillion, the paper's red
STAGE2_END = "#009E73"  # bluish green, the paper's green

METHODS = {  # method -> its name in text, its colour (Tol's muted scheme) and its marker
    "spd": ("SPD (progressive, KD)", "#332288", "o"),
    "kd_only": ("KD, no progressive", "#44AA99", "s"),
    "progressive_only": ("progressive, no KD", "#999933", "^"),
    "finetune_prune": ("no progressive, no KD", "#882255", "D"),
}
_OTHER_METHODS = (("#CC6677", "v"), ("#88CCEE", "P"), ("#117733", "X"), ("#DDCC77", "<"), ("#AA4499", ">"))
SPD = METHODS["spd"][1]
INSTEAD = "#CC6677"  # the strategy that SPD's own is compared with

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


def method_name(method: str) -> str:
    """The method's name in running text.

    >>> method_name("kd_only"), method_name("cr_ild")
    ('KD, no progressive', 'cr_ild')
    """
    return METHODS[method][0] if method in METHODS else method


def method_mark(method: str) -> tuple[str, str]:
    """Colour and marker of a method, the same in every figure; methods without their own get one by their name."""
    if method in METHODS:
        return METHODS[method][1:]
    return _OTHER_METHODS[zlib.crc32(method.encode()) % len(_OTHER_METHODS)]


def ramp(count: int) -> list[str]:
    """Colours for `count` ascending values, dark to light: cividis, which the colour-blind and print keep in order."""
    colours = matplotlib.colormaps["cividis"](np.linspace(0.0, 0.85, max(count, 1)))
    return [to_hex(colour) for colour in colours]


MARKERS = "osD^vP<>X*"


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


def many(values: Iterable[object], most: int = 8) -> str:
    """Values for running text, shortened in the middle where they are many.

    >>> many(range(20), most=3)
    '0, 1, ..., 19 (20 values)'
    """
    texts = [str(value) for value in values]
    if len(texts) <= most:
        return listing(texts)
    return f"{', '.join(texts[: most - 1])}, ..., {texts[-1]} ({len(texts)} values)"


def span_of(seeds: Iterable[int]) -> str:
    """Ascending seeds for running text.

    >>> span_of([0, 1]), span_of([0, 1, 2, 3]), span_of([1, 5, 9])
    ('0 and 1', '0 to 3', '1, 5 and 9')
    """
    found = list(seeds)
    if len(found) > 2 and found == list(range(found[0], found[-1] + 1)):
        return f"{found[0]} to {found[-1]}"
    return many(found)


def plural(count: int, noun: str) -> str:
    """The count with its noun.

    >>> plural(1, "seed"), plural(3, "seed")
    ('1 seed', '3 seeds')
    """
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def capital(text: str) -> str:
    """The text with a capital at its beginning.

    >>> capital("best dev F1")
    'Best dev F1'
    """
    return text[:1].upper() + text[1:]


def counts(numbers: Iterable[int]) -> str:
    """How many trials stand behind each value.

    >>> counts([3, 3]), counts([2, 5, 3])
    ('n = 3', 'n = 2 to 5')
    """
    found = list(numbers)
    return f"n = {min(found)}" if min(found) == max(found) else f"n = {min(found)} to {max(found)}"


def signed(value: float, digits: int = 3) -> str:
    """A number with its sign, a true minus.

    >>> signed(0.25), signed(-0.1)
    ('+0.250', '−0.100')
    """
    return f"{value:+.{digits}f}".replace("-", "−")


def interval(estimate: Estimate, digits: int = 3) -> str:
    """An estimate with its interval and n."""
    ends = f"{signed(estimate.low, digits)} to {signed(estimate.high, digits)}"
    return f"{signed(estimate.value, digits)} (95% interval {ends}, n = {estimate.n})"


def split_name(setting: Setting) -> str:
    """The split that students were chosen on: "dev", "holdout" or both."""
    return " / ".join(setting.selections)


def short_rate(value: float) -> str:
    """A learning rate, short.

    >>> short_rate(3.2e-4), short_rate(0.003)
    ('3.2e-4', '3e-3')
    """
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def short(value: object) -> str:
    """A value of a dimension, short.

    >>> short(0.6), short(3.2e-4), short("two_decays")
    ('0.6', '3.2e-4', 'two decays')
    """
    if isinstance(value, float):
        return short_rate(value) if 0 < abs(value) < 0.01 else f"{value:.4g}"
    return str(value).replace("_", " ")


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
        f"target sparsity {many(f'{sparsity:g}' for sparsity in setting.sparsities)}; "
        f"{'seed' if len(setting.seeds) == 1 else 'seeds'} {span_of(setting.seeds)}; "
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


def omissions(left_out: tuple[tuple[str, int], ...]) -> str:
    """What was left out and why, as a sentence."""
    if not left_out:
        return "No trial was left out."
    total = sum(count for _, count in left_out)
    return f"Left out: {plural(total, 'trial')} ({listing(f'{n} {why}' for why, n in left_out)})."


def save(figure: Figure, stem: Path, caption: str) -> list[Path]:
    """Write `stem`.png and `stem`.svg, the caption in their metadata; returns the two paths."""
    png, svg = stem.with_suffix(".png"), stem.with_suffix(".svg")
    with matplotlib.rc_context(RC):
        figure.savefig(png, metadata={"Description": caption})
        figure.savefig(svg, metadata={"Description": caption, "Date": None})
    return [png, svg]


def picture(setting: Setting, height: float, rows: int = 1, columns: int = 1, **how: Any) -> tuple[Figure, Any]:
    """An empty picture `height` inches high with its title, and its axes (one, or an array of rows and columns)."""
    made = Figure(figsize=(WIDTH, height), layout="constrained")
    made.suptitle(title(setting), fontsize=9)
    return made, made.subplots(rows, columns, **how)


def legend(made: Figure, columns: int = 4) -> None:
    """One legend below the picture, each label once."""
    entries: dict[str, Any] = {}
    for axes in made.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    made.legend(
        list(entries.values()), list(entries), loc="outside lower center", ncols=columns, handlelength=2.4,
        columnspacing=1.4,
    )  # fmt: skip
