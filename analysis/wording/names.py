"""What methods, metrics, splits, tasks and trials are called in captions, tables and messages."""

from collections.abc import Iterable

from analysis.reading.tasks import is_synthetic
from analysis.reading.trials import Setting
from analysis.wording.formatting import join

_METHODS = {  # method -> its name in text
    "spd": "SPD (progressive, KD)",
    "kd_only": "KD, no progressive",
    "progressive_only": "progressive, no KD",
    "finetune_prune": "no progressive, no KD",
}
_METRICS = {  # metric -> its name in text, its range
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
    return _METHODS.get(method, method)


def metric_name(metric: str) -> str:
    """The metric's name in running text.

    >>> metric_name("f1")
    'F1'
    """
    return _METRICS[metric][0] if metric in _METRICS else metric


def metric_label(metrics: Iterable[str]) -> str:
    """The label of a score axis with its range.

    >>> metric_label(["accuracy"])
    'accuracy (0 to 1)'
    """
    return " / ".join(f"{metric_name(metric)} ({_METRICS.get(metric, ('', '−1 to 1'))[1]})" for metric in metrics)


def split_name(setting: Setting) -> str:
    """The split on which students were chosen: "dev", "holdout" or both."""
    return " / ".join(setting.selections)


def task_names(setting: Setting) -> str:
    """The tasks; the miniature's are called synthetic wherever they are named at all."""
    real = [task for task in setting.tasks if not is_synthetic(task)]
    synthetic = join(task for task in setting.tasks if is_synthetic(task))
    return join([*real, *([f"{synthetic} (synthetic miniature, not GLUE)"] if synthetic else [])])


def trial_name(trial_id: str, status: str) -> str:
    """A trial in running text; its status is given unless it ran to its end.

    >>> trial_name("3-s0", "stopped")
    'trial 3-s0 (stopped)'
    """
    return f"trial {trial_id}" if status == "finished" else f"trial {trial_id} ({status})"
