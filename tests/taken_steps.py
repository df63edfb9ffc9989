"""A few training steps, looked at one by one: what `train_spd` yields comes evaluation by evaluation."""

from collections.abc import Callable

import pytest

from spd_ray.training.taken_steps import TakenStep
from spd_ray.training.trainer import SpdRun, train_spd


class Enough(Exception):
    """As many steps as were asked for have been taken."""


def train_steps(run: SpdRun, count: int, look: Callable[[TakenStep], None] = lambda taken: None) -> None:
    """Take the steps up to `count` and show each to `look`, before a pruning event that is due after it."""

    def tell(taken: TakenStep) -> None:
        look(taken)
        if taken.known["step"] == count - 1:
            raise Enough

    with pytest.raises(Enough):
        list(train_spd(run, tell))
