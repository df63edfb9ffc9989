"""Figures 13 to 16: dev score over training steps at sparsity 0.95 on CoLA, STS-B, MRPC and RTE."""

from collections.abc import Sequence
from typing import NamedTuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.drawing import captions, style
from analysis.errors import NoData
from analysis.numbers import over_steps as overtime
from analysis.numbers.figure_data import Source, made_by, named
from analysis.numbers.over_steps import Curve, Ends
from analysis.reading.sweeps import Tables
from analysis.reading.trials import left_out, status_counts
from analysis.wording import formatting as words

TASKS = {"fig13": "CoLA", "fig14": "STS-B", "fig15": "MRPC", "fig16": "RTE"}
PRINTED_SPARSITY = 0.95


class EvaluationCurve(NamedTuple):
    """One setting's score over steps, its n trials one a seed."""

    name: str
    data: captions.Origin
    curve: Curve
    ends: Ends
    teachers: tuple[float, ...]
    majorities: tuple[float, ...]


def title(name: str) -> str:
    """The figure's title."""
    return f"Evaluation over steps, the paper's {TASKS[name]} (Figure {name[3:]})"


def compute(sweeps: Sequence[Tables], name: str) -> EvaluationCurve:
    """The curve of sweep `name`. Raises NoData where there is no such sweep or nothing finished in it."""
    own = named(sweeps, name)
    if not own:
        raise NoData(f"there is no sweep {name}; {made_by(name)}")
    tables = own[0]
    trials = tuple(tables.comparable)
    if not trials:
        raise NoData(f"in sweep {tables.name} no trial has finished at its target sparsity yet "
                     f"({status_counts(tables.trials)})")  # fmt: skip
    curve = overtime.curve(tables, trials, None)
    if not len(curve.step):
        raise NoData(f"sweep {tables.name} has no recorded evaluation that its trials share")
    source = Source(tables, True, (), {None: trials}, left_out(tables.trials), (), True)
    return EvaluationCurve(
        name, captions.origin(source, name), curve, overtime.ends_of(trials),
        tuple(sorted({trial.teacher_score for trial in trials if trial.teacher_score is not None})),
        tuple(sorted({trial.majority_score for trial in trials if trial.majority_score is not None})),
    )  # fmt: skip


def draw(numbers: EvaluationCurve, axes: Axes) -> None:
    """The mean with its band, the teacher's and the majority's score, the ends of the stages."""
    split = words.split_name(numbers.data.setting)
    overtime.draw_curve(axes, numbers.curve, color=style.DEV, marker="o", label=f"{split} (n = {numbers.curve.n})")
    for score in numbers.teachers:
        style.mark_teacher(axes, score, f"dense teacher, {score:.3f}")
    for score in numbers.majorities:
        axes.axhline(score, color="#767676", linestyle=":", linewidth=1.1, label=f"majority class, {score:.3f}")
    overtime.finish(axes, numbers.ends, f"{split} {words.metric_label(numbers.data.setting.metrics)}")


def caption(numbers: EvaluationCurve) -> str:
    """What the picture shows and what the paper shows at this place."""
    n = f"n = {numbers.curve.n}"
    sparsities = numbers.data.setting.sparsities
    other = "" if sparsities == (PRINTED_SPARSITY,) else f" The paper's has sparsity {PRINTED_SPARSITY}."
    return (
        f"{words.capital(words.split_name(numbers.data.setting))} score over steps. Line: mean over seeds; band: "
        f"smallest to largest; {n}. Before pruning has ended, students are denser than the target. "
        f"{captions.tail(numbers.data)} The paper's Figure {numbers.name[3:]} shows {TASKS[numbers.name]} (dev) at "
        f"sparsity {PRINTED_SPARSITY}.{other}"
    )


def figure(numbers: EvaluationCurve) -> Figure:
    """The picture."""
    with matplotlib.rc_context(style.RC):
        picture, axes = style.picture(numbers.data.setting, 3.6)
        draw(numbers, axes)
        style.legend(picture, 3)
    return picture
