"""A trial as Tune runs it. What it imports takes a worker seconds, and is imported when the worker is asked to work.

Why so: docs/decisions.md #the-first-step-in-seconds.
"""

from typing import Any

from ray import tune

from spd_ray.base.imports import import_quickly


class SpdTrainable(tune.Trainable):
    """`FirstRank` as Tune's class Trainable; with `reuse_actors` it outlives its trials."""

    def setup(self, config: dict[str, Any]) -> None:
        self.rank = import_quickly("spd_ray.trials.ranks").FirstRank(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.rank.reset(new_config)
        return True

    def step(self) -> dict[str, Any]:
        result: dict[str, Any] = self.rank.step()
        return result

    def cleanup(self) -> None:
        self.rank.close()
