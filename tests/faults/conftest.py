"""One undisturbed sweep that all faults are compared with, how often a fault happens, and the table of figures."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

from spd_ray.records.trials import read_trials
from tests.sweeps import SPACE, Sweeps, curves, scores, steps_of, study_states

# A trial of some seconds, so that a fault finds it at work.
TRIAL = {**SPACE["method"], "total_epochs": 24, "stage1_epochs": 12, "stage2_epochs": 4}
TWO_AT_ONCE = {"cpus_per_worker": 1, "concurrent": 2}
EQUAL = "steps, scores, study and MLflow bit-equal"
FIGURES: list[tuple[str, ...]] = []


@dataclass(frozen=True)
class Undisturbed:
    """A sweep to which nothing happened, and how many seconds it took."""

    folder: Path
    seconds: float

    def assert_equals(self, folder: Path, uri: str | None = None) -> None:
        """Each step, score, answer to the study and point in MLflow is the undisturbed sweep's; nothing is left."""
        assert scores(folder) == scores(self.folder)
        assert steps_of(folder) == steps_of(self.folder)
        assert study_states(folder) == study_states(self.folder)
        ours, theirs = curves(folder, uri), curves(self.folder)
        assert {trial: len(runs) for trial, runs in ours.items()} == dict.fromkeys(theirs, 1)
        for (trial, run), other in zip(sorted(ours.items()), [runs for _, runs in sorted(theirs.items())], strict=True):
            assert run == other, trial
        assert list((folder / "state").iterdir()) == []
        assert [path for part in ("checkpoints", "steps") for path in (folder / part).rglob(".*")] == []


@pytest.fixture(scope="session")
def sweep_of(tiny_teacher, tmp_path_factory) -> Sweeps:
    return Sweeps(tmp_path_factory.mktemp("faults"), tiny_teacher, method=TRIAL, resources=TWO_AT_ONCE)


@pytest.fixture(scope="session")
def undisturbed_of(sweep_of) -> Callable[..., Undisturbed]:
    """Runs a sweep by name, with changes of its space, to which nothing happens."""

    def run(name: str, **changes: Any) -> Undisturbed:
        started = time.monotonic()
        done, folder = sweep_of(name, **changes)
        assert done.returncode == 0, done.stderr
        return Undisturbed(folder, time.monotonic() - started)

    return run


@pytest.fixture(scope="session")
def undisturbed(undisturbed_of) -> Undisturbed:
    return undisturbed_of("undisturbed")


@pytest.fixture(scope="session")
def count(request: pytest.FixtureRequest) -> Callable[[int, int], int]:
    """How often a fault happens: the first number in `make test`, the second in `make faults`."""
    full = request.config.getoption("--full")
    return lambda short, many: many if full else short


@pytest.fixture(scope="session")
def usual(undisturbed, undisturbed_of, count) -> tuple[Undisturbed, dict[str, Any]]:
    """An undisturbed sweep and its changes of the space: in full number of 16 trials, so that many faults find some."""
    if count(0, 1) == 0:
        return undisturbed, {}
    changes = {"study": {"sampler": "grid", "trials": 2, "seeds": list(range(8))}}
    return undisturbed_of("many_seeds", **changes), changes


@pytest.fixture(autouse=True)
def nothing_runs_on(sweep_of) -> Iterator[None]:
    """What a test that failed has left running is killed."""
    yield
    sweep_of.kill_launched()


@pytest.fixture
def note() -> Callable[..., None]:
    """Notes a line of the table of figures; `seconds` are those of the sweep from its first command to its end."""

    def add(fault: str, times: int, folder: Path, seconds: float, usual: float, compared: str = EQUAL) -> None:
        trials = len(read_trials(folder))
        FIGURES.append((fault, str(times), str(trials), f"{seconds:.0f}", f"{seconds - usual:.0f}", compared))

    return add


def pytest_terminal_summary() -> None:
    """The table of figures, at the end."""
    if FIGURES:
        table = Table("fault", "times", "trials", "seconds", "lost", "compared", title="faults")
        for row in FIGURES:
            table.add_row(*row)
        Console(width=140).print(table)
