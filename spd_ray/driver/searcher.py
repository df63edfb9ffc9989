"""What Tune runs next: the trials that the ledger has due."""

from collections.abc import Callable
from typing import Any

from ray.tune.search import Searcher

from spd_ray.study.ledger import Ledger


class LedgerSearcher(Searcher):
    """A Tune searcher that hands out the ledger's trials; `tune_config` makes Tune's configuration of a trial id."""

    def __init__(self, ledger: Ledger, tune_config: Callable[[str], dict[str, Any]]) -> None:
        super().__init__(metric="score", mode="max")
        self.ledger = ledger
        self.tune_config = tune_config

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        due = self.ledger.next_due()
        if due is not None:
            return self.tune_config(due)
        return None if self.ledger.running else Searcher.FINISHED  # one that runs may become due again

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Nothing: the sweep's callback reports the end to the ledger."""

    def __getstate__(self) -> dict[str, Any]:
        """Nothing for Tune's own snapshot: a sweep is resumed from the ledger."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the ledger is on disk already."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore."""
