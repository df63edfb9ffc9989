"""Figure 4: the three schedules of one trial, from its recorded steps and not from the formulas."""

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
from analysis.reading.trials import Setting, setting_of
from analysis.wording.formatting import format_rate, join
from analysis.wording.names import trial_name

NAME = "fig04"
TITLE = "The three schedules (Figure 4)"


class Schedules(NamedTuple):
    """The schedules over N recorded steps; t1 and t2 are None where Stage I or II has not ended."""

    sweep: str
    trial_id: str
    status: str
    setting: Setting
    step: np.ndarray  # (N,) applied optimizer steps, ascending
    p: np.ndarray  # (N,) replacing probability
    sparsity: np.ndarray  # (N,) achieved fraction of zeros
    learning_rate: np.ndarray  # (N,)
    t1: int | None
    t2: int | None


def compute(sweeps: Sequence[Sweep], trial_id: str | None = None) -> Schedules:
    """The schedules of `trial_id`, by default of a best trial. Raises NoData where no step is recorded."""
    sweep, trial = choose_trial(sweeps, trial_id)
    rows = sweep.steps(trial.trial_id, ["step", "stage", "p", "sparsity", "learning_rate"], "batch", "loss")
    if not len(rows["step"]):
        raise NoData(f"trial {trial.trial_id} has no recorded training step")
    return Schedules(
        sweep=sweep.name,
        trial_id=trial.trial_id,
        status=trial.status,
        setting=setting_of([trial]),
        step=rows["step"],
        p=rows["p"],
        sparsity=rows["sparsity"],
        learning_rate=rows["learning_rate"],
        t1=_first_step(rows, stage=2),
        t2=_first_step(rows, stage=3),
    )


def _first_step(rows: dict[str, np.ndarray], stage: int) -> int | None:
    """The first recorded step of `stage` or a later one."""
    reached = rows["step"][rows["stage"] >= stage]
    return int(reached[0]) if len(reached) else None


def draw(numbers: Schedules, axes: tuple[Axes, Axes, Axes]) -> None:
    """Replacing probability, sparsity and learning rate over steps, from top to bottom."""
    probability, pruning, rate = axes
    end = int(numbers.step[-1]) + 1
    for number, panel in enumerate(axes):
        style.mark_stages(panel, numbers.t1, numbers.t2, end, named=number == 0)
    probability.plot(numbers.step, numbers.p, color=style.INK)
    probability.set(ylabel="(a) replacing\nprobability p", ylim=(0, 1.08))
    pruning.plot(numbers.step, numbers.sparsity, color=style.PRUNING, drawstyle="steps-post")
    pruning.set(ylabel="(b) sparsity θ\n(fraction of zeros)", ylim=(0, 1.08))
    rate.plot(numbers.step, numbers.learning_rate, color=style.INK)
    rate.set(ylabel="(c) learning\nrate λ", xlabel="Step t (applied optimizer steps)")
    rate.set_ylim(0, 1.3 * float(np.nanmax(numbers.learning_rate)))
    rate.ticklabel_format(axis="y", style="sci", scilimits=(-2, 2))
    _write_values(numbers, axes)
    probability.figure.align_ylabels(axes)


def _write_values(numbers: Schedules, axes: tuple[Axes, Axes, Axes]) -> None:
    """p0, the last sparsity and the first rate of each decay, beside their curves."""
    probability, pruning, rate = axes
    p0, sparsity = float(numbers.p[0]), float(numbers.sparsity[-1])
    _note(probability, f"$p_0$ = {p0:.3g}", numbers.step[0], p0, below=p0 > 0.8)
    _note(pruning, f"θ = {sparsity:.3g}", numbers.step[-1], sparsity, below=sparsity > 0.8, right=True)
    _note(rate, f"$λ_0$ = {format_rate(numbers.learning_rate[0])}", numbers.step[0], numbers.learning_rate[0])
    if numbers.t1 is not None:
        at = int(np.searchsorted(numbers.step, numbers.t1))
        first = numbers.learning_rate[at]
        _note(rate, f"$λ_1$ = {format_rate(first)}", numbers.t1, first)


def _note(axes: Axes, text: str, x: float, y: float, below: bool = False, right: bool = False) -> None:
    offset = (-4 if right else 4, -4 if below else 4)
    vertical, horizontal = ("top" if below else "bottom"), ("right" if right else "left")
    axes.annotate(text, (x, y), offset, textcoords="offset points", va=vertical, ha=horizontal, fontsize=8)


def caption(numbers: Schedules) -> str:
    """What the picture shows of which trial, and what the paper's figure shows."""
    ends = {"I (vermillion)": numbers.t1, "II (green)": numbers.t2}
    lines = [f"Stage {name} ended at step {step}" for name, step in ends.items() if step is not None]
    dashed = f"dashed lines: {join(lines)}" if lines else "Stage I has not ended"
    trial = trial_name(numbers.trial_id, numbers.status)
    return (
        f"(a) Replacing probability, (b) sparsity and (c) learning rate as {trial} recorded them at "
        f"{len(numbers.step):,} applied steps; {dashed}. Sweep {numbers.sweep}. {describe_setting(numbers.setting)} "
        "In the paper, Figure 4 is a drawn example of these schedules: p stays at p₀ in Stage I, rises linearly to 1 "
        "in Stage II and stays there; pruning ends with Stage I; the learning rate decays once in Stage I "
        "and, restarted, once over Stages II and III."
    )


def figure(numbers: Schedules) -> Figure:
    """The picture."""

    def draw_three(axes: list[Axes]) -> None:
        probability, pruning, rate = axes
        draw(numbers, (probability, pruning, rate))

    return style.compose(numbers.setting, 5.2, draw_three, 3, sharex=True)
