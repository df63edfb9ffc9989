"""What each sweep cost, in device hours."""

from collections.abc import Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.drawing import style
from analysis.errors import NoData
from analysis.reading.sweeps import Tables
from analysis.reading.trials import Setting, setting_of
from analysis.wording import formatting as words

NAME = "hours"
TITLE = "Device hours of each sweep"


class Hours(NamedTuple):
    """Device hours of S sweeps: seconds inside training steps times the trials' workers, all trials counted."""

    setting: Setting
    sweep: tuple[str, ...]  # (S,)
    hours: np.ndarray  # (S,)
    trials: tuple[int, ...]  # (S,) trials whose time is known
    unknown: int  # trials whose time is not known


def compute(sweeps: Sequence[Tables]) -> Hours:
    """Sum the trials' device seconds, failed and stopped ones included. Raises NoData where none is known."""
    known = {sweep.name: [t.device_seconds for t in sweep.trials if t.device_seconds is not None] for sweep in sweeps}
    known = {name: seconds for name, seconds in known.items() if seconds}
    every = [trial for sweep in sweeps for trial in sweep.trials]
    if not known:
        raise NoData("no trial has recorded its device seconds yet")
    counted = tuple(map(len, known.values()))
    return Hours(
        setting_of(every), tuple(known), np.array([sum(seconds) / 3600 for seconds in known.values()]), counted,
        len(every) - sum(counted),
    )  # fmt: skip


def draw(numbers: Hours, axes: Axes) -> None:
    """A bar a sweep with its hours and its trials."""
    places = np.arange(len(numbers.sweep))
    axes.barh(places, numbers.hours, color=style.DEV, alpha=0.75, height=0.6)
    for place, hours, trials in zip(places, numbers.hours, numbers.trials, strict=True):
        text = f" {hours:.3g} h, {words.plural(trials, 'trial')}"
        axes.annotate(text, (hours, place), (2, 0), textcoords="offset points", va="center", fontsize=8)
    axes.set_yticks(places, numbers.sweep)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.45 * float(numbers.hours.max()) or 1)
    axes.set_xlabel("Device hours (seconds inside training steps × workers)")


def caption(numbers: Hours) -> str:
    """What the bars are."""
    unknown = f" {words.plural(numbers.unknown, 'trial')} with no time recorded are not counted." * bool(
        numbers.unknown
    )
    return (
        f"Device hours of each sweep, stopped and failed trials counted; {numbers.hours.sum():.3g} h in all.{unknown} "
        "Evaluations and start-up are not in them. The paper names its machine but no hours."
    )


def figure(numbers: Hours) -> Figure:
    """The picture."""
    with matplotlib.rc_context(style.RC):
        picture, axes = style.picture(numbers.setting, 0.9 + 0.3 * len(numbers.sweep))
        draw(numbers, axes)
    return picture
