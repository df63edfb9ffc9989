"""What methods, metrics, splits, tasks and trials are called in captions, tables and messages."""

from collections.abc import Iterable

from analysis.reading.tasks import is_synthetic
from analysis.reading.trials import Setting, Trial
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
    "macro_f1": ("macro F1", "0 to 1"),
    "matthews": ("Matthews correlation", "−1 to 1"),
    "spearman": ("Spearman correlation", "−1 to 1"),
    "pearson": ("Pearson correlation", "−1 to 1"),
    "neg_mse": ("negative mean squared error", "at most 0"),
}


def method_name(method: str) -> str:
    """The method's name in running text.

    >>> method_name("kd_only"), method_name("cr_ild")
    ('KD, no progressive', 'cr_ild')
    """
    return _METHODS.get(method, method)


def metric_name(metric: str) -> str:
    """The metric's name in running text; of a function of the user's own, `module:function`, the function's.

    >>> metric_name("f1"), metric_name("my.metrics:recall_at_2")
    ('F1', 'recall_at_2')
    """
    return _METRICS[metric][0] if metric in _METRICS else metric.rpartition(":")[2]


def metric_label(metrics: Iterable[str]) -> str:
    """The label of a score axis with its range, where it is known.

    >>> metric_label(["accuracy", "my:recall"])
    'accuracy (0 to 1) / recall'
    """
    ranges = {metric: f" ({bounds})" for metric, (_, bounds) in _METRICS.items()}
    return " / ".join(metric_name(metric) + ranges.get(metric, "") for metric in metrics)


def baseline_name(trial: Trial) -> str:
    """What an answer that looks at no text is called."""
    return "constant mean" if trial.is_regression else "majority class"


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
