"""What each sweep cost, in device hours."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.drawing import style
from analysis.errors import NoData
from analysis.reading.sweeps import Sweep
from analysis.reading.trials import Setting, setting_of
from analysis.wording.formatting import pluralize

NAME = "hours"
TITLE = "Device hours of each sweep"


class DeviceHours(NamedTuple):
    """Device hours of S sweeps: seconds inside training steps times the trials' workers, all trials counted."""

    setting: Setting
    sweep: tuple[str, ...]  # (S,)
    hours: np.ndarray  # (S,)
    trials: tuple[int, ...]  # (S,) trials whose time is known
    unknown: int  # trials whose time is not known


def compute(sweeps: Sequence[Sweep]) -> DeviceHours:
    """Sum the trials' device seconds, failed and stopped ones included. Raises NoData where none is known."""
    recorded = {
        sweep.name: [trial.device_seconds for trial in sweep.trials if trial.device_seconds is not None]
        for sweep in sweeps
    }
    known = {name: seconds for name, seconds in recorded.items() if seconds}
    if not known:
        raise NoData("no trial has recorded its device seconds yet")
    every = [trial for sweep in sweeps for trial in sweep.trials]
    counted = tuple(map(len, known.values()))
    hours = np.array([sum(seconds) / 3600 for seconds in known.values()])
    return DeviceHours(setting_of(every), tuple(known), hours, counted, len(every) - sum(counted))


def draw(numbers: DeviceHours, axes: Axes) -> None:
    """One bar per sweep with its hours and its trials."""
    places = np.arange(len(numbers.sweep))
    axes.barh(places, numbers.hours, color=style.DEV, alpha=0.75, height=0.6)
    for place, hours, trials in zip(places, numbers.hours, numbers.trials, strict=True):
        text = f" {hours:.3g} h, {pluralize(trials, 'trial')}"
        axes.annotate(text, (hours, place), (2, 0), textcoords="offset points", va="center", fontsize=8)
    axes.set_yticks(places, numbers.sweep)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.45 * float(numbers.hours.max()) or 1)
    axes.set_xlabel("Device hours (seconds inside training steps × workers)")


def caption(numbers: DeviceHours) -> str:
    """What the bars are."""
    unknown = f" {pluralize(numbers.unknown, 'trial')} without a recorded time are not counted."
    return (
        f"Device hours of each sweep, stopped and failed trials included; {numbers.hours.sum():.3g} h in all."
        f"{unknown if numbers.unknown else ''} Evaluations and start-up are not included. The paper names its machine "
        "but no hours."
    )


def figure(numbers: DeviceHours) -> Figure:
    """The picture."""
    return style.compose(numbers.setting, 0.9 + 0.3 * len(numbers.sweep), lambda axes: draw(numbers, *axes))
