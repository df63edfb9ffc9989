"""Train and dev score of one trial over its steps."""

import json
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.drawing import style
from analysis.drawing.captions import describe_setting
from analysis.errors import NoData
from analysis.numbers.figure_data import choose_trial
from analysis.reading.sweeps import Sweep
from analysis.reading.trials import Setting, flat_config, setting_of
from analysis.wording.formatting import capitalize
from analysis.wording.names import metric_label, split_name, trial_name

NAME = "curves"
TITLE = "Train and dev score of the best trial"


class Curves(NamedTuple):
    """Scores at E evaluations (train and dev may be scored at different steps) and the trial's timeline in steps."""

    sweep: str
    trial_id: str
    status: str
    setting: Setting
    train_step: np.ndarray  # (E,) applied steps before the evaluation
    train_score: np.ndarray  # (E,)
    dev_step: np.ndarray  # (E,)
    dev_score: np.ndarray  # (E,)
    t1: int | None
    t2: int | None
    t3: int  # or the last evaluation's step where t3 is not known
    pruning_end_step: int | None
    best_step: int | None
    best_score: float | None
    best_train_score: float | None
    teacher_score: float | None
    train_examples: int | None  # at most so many training examples were scored


def compute(sweeps: Sequence[Sweep], trial_id: str | None = None) -> Curves:
    """The curves of `trial_id`, by default of the best trial. Raises NoData where nothing was evaluated."""
    sweep, trial = choose_trial(sweeps, trial_id)
    train = sweep.steps(trial.trial_id, ["step", "value"], "train", trial.metric)
    dev = sweep.steps(trial.trial_id, ["step", "value"], trial.selection, trial.metric)
    steps = np.concatenate([train["step"], dev["step"]])
    if not len(steps):
        raise NoData(f"trial {trial.trial_id} has no recorded evaluation")
    return Curves(
        sweep=sweep.name,
        trial_id=trial.trial_id,
        status=trial.status,
        setting=setting_of([trial]),
        train_step=train["step"],
        train_score=train["value"],
        dev_step=dev["step"],
        dev_score=dev["value"],
        t1=trial.t1,
        t2=trial.t2,
        t3=max(trial.t3 or 0, int(steps.max())),
        pruning_end_step=trial.pruning_end_step,
        best_step=trial.best_step,
        best_score=trial.best_score,
        best_train_score=trial.train_score,
        teacher_score=trial.teacher_score,
        train_examples=json.loads(flat_config(trial).get("method.eval_train_examples", "null")),
    )


def draw(numbers: Curves, axes: Axes) -> None:
    """Both curves, the teacher's score, the best student, the stages' ends and the time of pruning."""
    style.mark_stages(axes, numbers.t1, numbers.t2, numbers.t3, named=True)
    split = split_name(numbers.setting)
    if numbers.pruning_end_step is not None:
        axes.axvspan(0, numbers.pruning_end_step, color=style.PRUNING, alpha=0.14, linewidth=0, label="pruning")
    if numbers.teacher_score is not None:
        style.mark_teacher(axes, numbers.teacher_score, "dense teacher, dev")
    for step, score, marks, colour, label in (
        (numbers.train_step, numbers.train_score, "s-", style.TRAIN, "train"),
        (numbers.dev_step, numbers.dev_score, "o-", style.DEV, split),
    ):
        axes.plot(step, score, marks, markersize=3, color=colour, label=label, clip_on=False)
    if numbers.best_step is not None and numbers.best_score is not None:
        axes.plot(
            [numbers.best_step], [numbers.best_score], "o", markersize=9, markerfacecolor="none", markeredgewidth=1.5,
            color=style.DEV, label=f"best {split}", clip_on=False, linestyle="none",
        )  # fmt: skip
    axes.set_xlabel("Step t (applied optimizer steps)")
    axes.set_ylabel(capitalize(metric_label(numbers.setting.metrics)))


def caption(numbers: Curves) -> str:
    """What the picture shows of which trial, and where the paper shows the like."""
    trial = trial_name(numbers.trial_id, numbers.status)
    return (
        f"Train and {split_name(numbers.setting)} score of {trial} over its steps, all layers the student's. "
        f"{_best(numbers)}{_marks(numbers)}Sweep {numbers.sweep}. {describe_setting(numbers.setting)} The paper's "
        "Figures 13 to 16 show the dev score over training steps (CoLA, STS-B, MRPC, RTE), its Figure 6 the gap "
        "between train and dev (MRPC)."
    )


def _best(numbers: Curves) -> str:
    if numbers.best_score is None or numbers.best_step is None:
        return ""
    text = f"Ring: the best score at the target sparsity, {numbers.best_score:.3f} at step {numbers.best_step:,}"
    if numbers.best_train_score is None:
        return text + ". "
    gap = numbers.best_train_score - numbers.best_score
    return f"{text} (train {numbers.best_train_score:.3f}, gap {gap:+.3f}). "


def _marks(numbers: Curves) -> str:
    sample = f"Train: at most {numbers.train_examples:,} training examples. " if numbers.train_examples else ""
    shade = "Shaded: pruning is under way; students there are denser than the target and do not count. "
    return sample + (shade if numbers.pruning_end_step is not None else "") + "Dashed: the ends of Stages I and II. "


def figure(numbers: Curves) -> Figure:
    """The picture."""
    return style.compose(numbers.setting, 3.8, lambda axes: draw(numbers, *axes), legend=4)
