"""Figures 13 to 16: dev score over training steps at sparsity 0.95 on CoLA, STS-B, MRPC and RTE."""

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.drawing import lines, style
from analysis.drawing.captions import describe_origin
from analysis.errors import NoData
from analysis.numbers.figure_data import Origin, nothing_finished, require_sweeps, take_whole
from analysis.numbers.over_steps import Curve, StageEnds, mean_curve, stage_ends
from analysis.reading.sweeps import Sweep
from analysis.reading.trials import teacher_scores
from analysis.wording.formatting import capitalize
from analysis.wording.names import baseline_name, metric_label, split_name

TASKS = {"fig13": "CoLA", "fig14": "STS-B", "fig15": "MRPC", "fig16": "RTE"}
PRINTED_SPARSITY = 0.95


class EvaluationCurve(NamedTuple):
    """One setting's score over steps, its n trials one per seed."""

    name: str
    data: Origin
    curve: Curve
    ends: StageEnds
    teachers: tuple[float, ...]
    majorities: tuple[float, ...]  # scores of always answering the most frequent class, or the mean
    baseline: str  # what such an answer is called


def title(name: str) -> str:
    """The figure's title."""
    return f"Evaluation over steps, the paper's {TASKS[name]} (Figure {name[3:]})"


def compute(sweeps: Sequence[Sweep], name: str) -> EvaluationCurve:
    """The curve of sweep `name`. Raises NoData where there is no such sweep or nothing finished in it."""
    sweep = require_sweeps(sweeps, name)[0]
    trials = tuple(sweep.comparable)
    if not trials:
        raise nothing_finished(sweep.name, sweep.trials)
    curve = mean_curve(sweep, trials, None)
    if not len(curve.step):
        raise NoData(f"sweep {sweep.name} has no recorded evaluation that its trials share")
    return EvaluationCurve(
        name, take_whole(sweep, {None: trials}).origin(name), curve, stage_ends(trials), teacher_scores(trials),
        tuple(sorted({trial.majority_score for trial in trials if trial.majority_score is not None})),
        baseline_name(trials[0]),
    )  # fmt: skip


def draw(numbers: EvaluationCurve, axes: Axes) -> None:
    """The mean with its band, the teacher's and the majority's score, the ends of the stages."""
    split = split_name(numbers.data.setting)
    lines.draw_curve(axes, numbers.curve, color=style.DEV, marker="o", label=f"{split} (n = {numbers.curve.n})")
    style.mark_teachers(axes, numbers.teachers)
    for score in numbers.majorities:
        axes.axhline(score, color=style.GREY, linestyle=":", linewidth=1.1, label=f"{numbers.baseline}, {score:.3f}")
    lines.label_axes(axes, numbers.ends, f"{split} {metric_label(numbers.data.setting.metrics)}")


def caption(numbers: EvaluationCurve) -> str:
    """What the picture shows, and what the paper's figure shows."""
    sparsities = numbers.data.setting.sparsities
    other = "" if sparsities == (PRINTED_SPARSITY,) else f" The paper's has sparsity {PRINTED_SPARSITY}."
    return (
        f"{capitalize(split_name(numbers.data.setting))} score over steps. Line: mean over seeds; band: "
        f"smallest to largest; n = {numbers.curve.n}. Until pruning has ended, students are denser than the target. "
        f"{describe_origin(numbers.data)} The paper's Figure {numbers.name[3:]} shows {TASKS[numbers.name]} (dev) at "
        f"sparsity {PRINTED_SPARSITY}.{other}"
    )


def figure(numbers: EvaluationCurve) -> Figure:
    """The picture."""
    return style.compose(numbers.data.setting, 3.6, lambda axes: draw(numbers, *axes), legend=3)
