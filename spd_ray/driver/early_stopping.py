"""Which trials are stopped early: successive halving that knows the stages.

Why so: docs/decisions.md #rivals-have-one-target-sparsity, #early-stopping.
"""

import bisect
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from spd_ray.base.files import append_lines, cut_torn_line, read_lines
from spd_ray.trials.request import requested_trial


def survives(score: float, rivals: Sequence[float], reduction_factor: float) -> bool:
    """Asynchronous successive halving (Li et al. 2020): is `score` in the top 1 / reduction_factor of a rung?

    `rivals` are the scores that reached the rung before, ascending. The first to arrive survives.

    >>> survives(0.8, [0.6, 0.7, 0.9], 2), survives(0.65, [0.6, 0.7, 0.9], 2), survives(0.1, [], 2)
    (True, False, True)
    """
    better = len(rivals) - bisect.bisect_right(rivals, score)
    return better < max(1.0, (len(rivals) + 1) / reduction_factor)


class StageAwareAsha(FIFOScheduler):
    """Early stopping that knows the stages: trials are compared at equal budget, after their last pruning event.

    A rung is a budget (step / t3). A trial whose pruning is not over at a rung's evaluation is neither judged
    nor counted there, and `level_of` a trial's id says among whom it is judged, those of its target sparsity: a denser
    student would win unfairly. Rungs survive a restart of the driver in `file`.
    """

    def __init__(
        self, rungs: Sequence[float], reduction_factor: float, file: Path, level_of: Callable[[str], float]
    ) -> None:
        super().__init__()
        self.rungs = sorted(rungs)
        self.reduction_factor = reduction_factor
        self.file = file
        self.level_of = level_of
        self._scores: dict[str, dict[str, float | None]] = {f"{rung:g}": {} for rung in self.rungs}
        self._rivals: dict[tuple[str, float], list[float]] = defaultdict(list)  # of a rung and level, ascending
        cut_torn_line(file)
        for entry in read_lines(file):
            self._note(**entry)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        trial_id = requested_trial(trial)
        level, decision = self.level_of(trial_id), TrialScheduler.CONTINUE
        for rung in self.rungs:
            name = f"{rung:g}"
            if result["budget"] < rung or trial_id in self._scores[name]:
                continue
            score = result["score"] if result["pruning_done"] else None
            if score is not None and not survives(score, self._rivals[name, level], self.reduction_factor):
                decision = TrialScheduler.STOP
            append_lines(self.file, [{"rung": name, "trial_id": trial_id, "score": score}])
            self._note(name, trial_id, score)
        return decision

    def _note(self, rung: str, trial_id: str, score: float | None) -> None:
        self._scores[rung][trial_id] = score
        if score is not None:
            bisect.insort(self._rivals[rung, self.level_of(trial_id)], score)
