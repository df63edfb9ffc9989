"""Sentences that captions share: which sweep was taken, what was excluded, the setting, how far to trust a mean."""

from analysis.numbers.figure_data import SPACES, Origin
from analysis.numbers.statistics import Estimate
from analysis.reading.trials import Exclusions, Setting
from analysis.wording.formatting import format_seeds, format_signed, join, join_shortened, pluralize
from analysis.wording.names import metric_label, metric_name, split_name, task_names

ADAPTIVE = ("tpe",)  # samplers that favour regions that have scored well


def format_interval(estimate: Estimate) -> str:
    """An estimate with its interval and n."""
    ends = f"{format_signed(estimate.low)} to {format_signed(estimate.high)}"
    return f"{format_signed(estimate.value)} (95% interval {ends}, n = {estimate.n})"


def gap_label(setting: Setting) -> str:
    """The label of an axis of train-dev gaps."""
    return f"Gap: train minus {split_name(setting)}\n{metric_label(setting.metrics)}"


def describe_setting(setting: Setting) -> str:
    """Task, model, sparsity, seeds and metric, as a sentence."""
    return (
        f"Task {task_names(setting)}; model {join(setting.models)}; "
        f"target sparsity {join_shortened(f'{sparsity:g}' for sparsity in setting.sparsities)}; "
        f"{'seed' if len(setting.seeds) == 1 else 'seeds'} {format_seeds(setting.seeds)}; "
        f"metric {join(map(metric_name, setting.metrics))}."
    )


def picture_title(setting: Setting) -> str:
    """The line above a picture, so that a picture alone still says what it shows."""
    sparsities = [f"{sparsity:g}" for sparsity in setting.sparsities]
    span = sparsities[0] if len(sparsities) == 1 else " to ".join(sparsities[:: max(1, len(sparsities) - 1)])
    tasks = task_names(setting) if len(setting.tasks) < 2 else f"{len(setting.tasks)} tasks"
    return f"{tasks}, sparsity {span}"


def describe_exclusions(exclusions: Exclusions) -> str:
    """What was left out and why, as a sentence."""
    if not exclusions:
        return "No trial was left out."
    total = sum(count for _, count in exclusions)
    return f"Left out: {pluralize(total, 'trial')} ({join(f'{n} {why}' for why, n in exclusions)})."


def describe_origin(data: Origin) -> str:
    """Which sweep was taken, what was left out, the setting, and a warning where values do not compare."""
    parts = [_sweep(data), describe_exclusions(data.exclusions), describe_setting(data.setting), _warning(data)]
    return " ".join(part for part in parts if part)


def _sweep(data: Origin) -> str:
    if data.own:
        return f"Sweep {data.sweep}."
    also = f" (also possible: {join_shortened(data.also, 4)})" if data.also else ""
    return f"Taken from sweep {data.sweep}{also}; {SPACES}/{data.space}.yaml makes this figure's own data."


def _warning(data: Origin) -> str:
    """What else differs between the trials, and what that does to means over them; "" where nothing does."""
    if not data.also_varying:
        return ""
    also = f"These trials also differ in {join_shortened(data.also_varying)}, so this marginal mixes them"
    if data.balanced:
        return f"{also}, evenly: every value was run with the same of their settings."
    if data.sampler in ADAPTIVE:
        return f"{also}, unevenly and biased: the sampler ({data.sampler}) favoured regions that scored well."
    if data.sampler == "random":
        return f"{also}, unevenly; the random sampler does not favour good settings."
    return f"{also}, unevenly; an adaptive sampler biases it further, towards the settings that it favoured."
