"""What Ray Tune itself costs a trial, with a Trainable that does nothing: `python -m benchmarks.tune`."""

import argparse
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ray
from ray import tune

from spd_ray.config.load import load_spec
from spd_ray.config.sweep import SweepSpec
from spd_ray.driver.first_checks import start_ray
from spd_ray.driver.tune import LedgerSearcher

SPACE = Path(__file__).parents[1] / "search_spaces" / "demo.yaml"
REPORTS = 12  # of a trial


class Nothing(tune.Trainable):
    """A trial that does nothing and reports it as often as the others."""

    def step(self) -> dict[str, Any]:
        return {"score": 0.5, "budget": 0.5, "step": self.iteration, "done": self.iteration + 1 == REPORTS}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        return True


class Ends(tune.Callback):
    """When trials ended, in seconds."""

    def __init__(self) -> None:
        self.at: list[float] = []

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.at.append(time.perf_counter())


def tune_alone(spec: SweepSpec, folder: Path, trials: int) -> list[float]:
    """When each of `trials` trials ended that Tune ran with four actors, and nothing else."""
    ends, given = Ends(), iter(range(trials))
    ledger: Any = SimpleNamespace(next_due=lambda: next(given, None))
    start_ray(None)
    tune.Tuner(
        tune.with_resources(Nothing, {"CPU": 0.25}),
        tune_config=tune.TuneConfig(search_alg=LedgerSearcher(ledger, lambda number: {"n": number}), num_samples=-1,
                                    max_concurrent_trials=4, reuse_actors=True),
        run_config=tune.RunConfig(name="ray", storage_path=str(folder), verbose=0, callbacks=[ends]),
    ).fit()  # fmt: skip
    ray.shutdown()
    return ends.at


def main() -> None:
    """Run the trials, print the milliseconds a trial, early and late."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=300)
    options = parser.parse_args()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        ends = tune_alone(load_spec(SPACE), Path(folder), options.trials)
    half = len(ends) // 2
    early, late = ((ends[stop - 1] - ends[stop - half]) / (half - 1) * 1000 for stop in (half, len(ends)))
    print(
        f"{len(ends)} trials of {REPORTS} reports: {early:.0f} ms a trial in the first half, {late:.0f} in the second"
    )
    print(f"the first trial ended after {ends[0] - started:.1f} s")


if __name__ == "__main__":
    main()
