"""The sentences with which each caption goes on: from which sweep, what was left out, how far it can be trusted."""

from typing import NamedTuple

from analysis.numbers.figure_data import SPACES, Source
from analysis.reading.trials import Setting
from analysis.wording import formatting as words

ADAPTIVE = ("tpe",)  # samplers that go where scores are good


class Origin(NamedTuple):
    """Of which data a figure is, in numbers and names."""

    sweep: str
    own: bool  # whether the sweep was made for the figure
    space: str  # the figure's own space
    also: tuple[str, ...]
    setting: Setting
    left_out: tuple[tuple[str, int], ...]
    searched: tuple[str, ...]
    balanced: bool
    sampler: str | None


def origin(source: Source, space: str) -> Origin:
    """The origin of a figure drawn from `source` and of which `space` is the own one."""
    return Origin(
        source.tables.name, source.own, space, source.also, source.setting, source.left_out, source.searched,
        source.balanced, source.tables.sampler,
    )  # fmt: skip


def tail(data: Origin) -> str:
    """Which sweep was taken, what was left out, the setting, and a warning where values do not compare."""
    parts = [_sweep(data), words.omissions(data.left_out), words.describe(data.setting), warning(data)]
    return " ".join(part for part in parts if part)


def _sweep(data: Origin) -> str:
    if data.own:
        return f"Sweep {data.sweep}."
    also = f" (also possible: {words.many(data.also, 4)})" if data.also else ""
    return f"Taken from sweep {data.sweep}{also}; {SPACES}/{data.space}.yaml makes this figure's own data."


def warning(data: Origin) -> str:
    """What else differs between the trials, and what that does to means over them; "" where nothing does."""
    if not data.searched:
        return ""
    also = f"These trials also differ in {words.many(data.searched)}, so that this marginal mixes them"
    if data.balanced:
        return f"{also}, evenly: each value was run with the same of their settings."
    if data.sampler in ADAPTIVE:
        return f"{also}, unevenly and biased: the sampler ({data.sampler}) went where scores were good."
    if data.sampler == "random":
        return f"{also}, unevenly; the random sampler does not favour good settings."
    return f"{also}, unevenly; an adaptive sampler biases it further, towards the settings that it favoured."
