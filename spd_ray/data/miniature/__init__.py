"""The embedded default: a generated language, a corpus for pretraining and three tasks, all synthetic."""

from spd_ray.data.miniature.tasks import MINI_TASKS, load_mini_task

__all__ = ["MINI_TASKS", "load_mini_task"]
