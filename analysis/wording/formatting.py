"""The words of captions, tables and messages: names, numbers and lists for running text."""

from collections.abc import Iterable

from analysis.numbers.statistics import Estimate
from analysis.reading.trials import Setting

METHODS = {  # method -> its name in text
    "spd": "SPD (progressive, KD)",
    "kd_only": "KD, no progressive",
    "progressive_only": "progressive, no KD",
    "finetune_prune": "no progressive, no KD",
}
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
    return METHODS.get(method, method)


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
    real = [task for task in setting.tasks if not task.startswith("mini_")]
    synthetic = listing(task for task in setting.tasks if task.startswith("mini_"))
    return listing([*real, *([f"{synthetic} (synthetic miniature, not GLUE)"] if synthetic else [])])


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
    span = sparsities[0] if len(sparsities) == 1 else " to ".join(sparsities[:: max(1, len(sparsities) - 1)])
    tasks = task_names(setting) if len(setting.tasks) < 2 else f"{len(setting.tasks)} tasks"
    return f"{tasks}, sparsity {span}"


def omissions(left_out: tuple[tuple[str, int], ...]) -> str:
    """What was left out and why, as a sentence."""
    if not left_out:
        return "No trial was left out."
    total = sum(count for _, count in left_out)
    return f"Left out: {plural(total, 'trial')} ({listing(f'{n} {why}' for why, n in left_out)})."
