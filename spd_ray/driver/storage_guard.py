"""The sweep ends when its storage refuses a write, or when its first trials all die of one and the same error.

Why so: docs/decisions.md #first-trials-that-fail-alike, #a-storage-that-refuses-a-write.
"""

from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial

from spd_ray.base.errors import UserError, storage_refusal
from spd_ray.driver.tune import FIRST_TRIALS, SweepWatcher


class StorageGuard(Callback):
    """Passes Tune's callbacks on to the watcher, until what happens after that is of no use.

    Tune takes an exception of a callback for an error of the trial, which it then retries or gives up; an exception at
    the end of a step ends the sweep. A trial whose write was refused is due again, from its last state.
    """

    def __init__(self, watcher: SweepWatcher) -> None:
        self.watcher = watcher
        self.refused: Exception | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Nothing for Tune's own snapshot."""
        return {}

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        self._pass_on("on_step_end", iteration, trials)
        if self.refused:
            raise self.refused

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._pass_on("on_trial_start", iteration, trials, trial)

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        if "refusal" in result:
            self.refused = OSError(result["refusal"])
        self._pass_on("on_trial_result", iteration, trials, trial, result)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._pass_on("on_trial_complete", iteration, trials, trial)
        self._look_for_common_error()

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._pass_on("on_trial_error", iteration, trials, trial)
        self._look_for_common_error()

    def _look_for_common_error(self) -> None:
        error = self.watcher.common_error()
        if error is not None and not self.refused:
            self.refused = UserError(
                f"the first {FIRST_TRIALS} trials have all failed before an evaluation, and alike: {error}; mend that "
                f"and begin again with --replace"
            )

    def _pass_on(self, name: str, *about: Any) -> None:
        if self.refused:
            return
        try:
            getattr(self.watcher, name)(*about)
        except Exception as error:
            if storage_refusal(error) is None:
                raise
            self.refused = error
