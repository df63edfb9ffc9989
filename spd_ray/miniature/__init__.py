"""The embedded default: a generated language, a corpus, three tasks and a small pretrained encoder, all synthetic."""

from spd_ray.miniature.recipe import MINIATURES, pretrained_miniature
from spd_ray.miniature.tasks import MINI_TASKS, load_mini_task

__all__ = ["MINIATURES", "MINI_TASKS", "load_mini_task", "pretrained_miniature"]
