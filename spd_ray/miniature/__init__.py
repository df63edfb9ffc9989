"""The embedded default: a generated language, a corpus, three tasks and a small pretrained encoder, all synthetic."""

from spd_ray.miniature.recipe import pretrained_miniature
from spd_ray.miniature.tasks import MINI_TASKS, load_mini_task

__all__ = ["MINI_TASKS", "load_mini_task", "pretrained_miniature"]
