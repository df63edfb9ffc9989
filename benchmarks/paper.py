"""Every figure, table and claim of the paper on the miniature: `python -m benchmarks.paper`, or `make paper`.

The sweeps are listed in paper.yaml. Each is a command of its own, so that one that fails, even one that takes its
process with it, leaves the others alone; what was begun is resumed. Where methods are compared, each tries as many
settings under one seed, and its best is run again under others. Here, since it runs the repository's spaces and
measures: what is installed has neither.
"""

import argparse
import fnmatch
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any, Literal

import yaml

from spd_ray.base.errors import INTERRUPTED, UserError, run_main
from spd_ray.base.installation import own_command
from spd_ray.config.section import Section
from spd_ray.config.yaml_file import yaml_text
from spd_ray.records.provenance import read_sweep_yaml
from spd_ray.records.schema import TrialRecord
from spd_ray.records.trials import read_trials

ROOT = Path(__file__).parents[1]
LIST = Path(__file__).with_suffix(".yaml")


class PaperSweep(Section):
    """One sweep: a space, and what is laid over it."""

    space: str
    profile: Literal["mini"] | None = None
    name: str | None = None
    set: tuple[str, ...] = ()
    best_under: tuple[int, ...] = ()  # seeds; a sweep search_NAME comes first
    best_of: str | None = None  # the sweep whose best configurations are run; follows from best_under
    full: bool = False

    @property
    def folder_name(self) -> str:
        """The sweep's name, which is its folder's."""
        return self.name or Path(self.space).stem


class PaperList(Section):
    """paper.yaml: the sweeps in their order, and the paper's spaces that are left out, each with the reason."""

    sweeps: tuple[PaperSweep, ...]
    left_out: dict[str, str]

    def plan(self, full: bool = False, only: str | None = None) -> list[PaperSweep]:
        """The sweeps that are run, one after the other.

        Raises UserError where `only`, a pattern such as "compare_*", is no sweep's name.
        """
        listed = [one for one in self.sweeps if full or only or not one.full]
        if only:
            names = [one.folder_name for one in listed]
            listed = [one for one in listed if fnmatch.fnmatch(one.folder_name, only)]
            if not listed:
                raise UserError(f"--only {only}: no such sweep; there are {', '.join(names)}")
        return [sweep for one in listed for sweep in (search_and_best(one) if one.best_under else [one])]


def search_and_best(sweep: PaperSweep) -> list[PaperSweep]:
    """The two sweeps of one with `best_under`."""
    name = f"search_{sweep.folder_name}"
    search = {"name": name, "set": (*sweep.set, "study.seeds=[0]", "checkpoints.keep=1"), "best_under": ()}
    best = {"set": (*sweep.set, f"study.seeds={list(sweep.best_under)}"), "best_under": (), "best_of": name}
    return [sweep.model_copy(update=search), sweep.model_copy(update=best)]


def read_list(path: Path = LIST) -> PaperList:
    """The list of sweeps."""
    return PaperList.model_validate(yaml.safe_load(path.read_text()))


def sweep_command(sweep: PaperSweep, storage: Path) -> list[str]:
    """The command that begins the sweep, or goes on with what `storage` has of it.

    Raises UserError where it wants the best of a sweep of which no trial has finished.
    """
    words = [sys.executable, "-m", "spd_ray.sweep", "--space", sweep.space, "--storage", str(storage)]
    for option, value in (("--profile", sweep.profile), ("--name", sweep.name)):
        words += [option, value] if value else []
    for setting in (*sweep.set, *(best_settings(storage / sweep.best_of) if sweep.best_of else ())):
        words += ["--set", setting]
    return [*words, "--resume"] if read_trials(storage / sweep.folder_name) else words


def best_settings(search: Path) -> list[str]:
    """What lets a sweep run the best configuration of each method and sparsity in the sweep `search`, and no other."""
    groups: dict[tuple[str, float], dict[int, list[TrialRecord]]] = {}
    for trial in read_trials(search):
        if trial.status == "finished" and trial.feasible:
            group = groups.setdefault((trial.method, trial.target_sparsity), {})
            group.setdefault(trial.configuration, []).append(trial)
    if not groups:
        raise UserError(f"{search.name} has no finished trial, of which one could be the best")
    searched = read_sweep_yaml(search)["spec"]["search"]
    best = [max(group.values(), key=_mean_score) for group in groups.values()]
    points = [{name: value_at(seeds[0], name) for name in searched} for seeds in best]
    return [f"warm_start={yaml_text(points)}", "study.sampler=random", f"study.trials={len(points)}"]


def _mean_score(seeds: list[TrialRecord]) -> float:
    return mean(one.best_score for one in seeds if one.best_score is not None)


def value_at(trial: TrialRecord, dimension: str) -> Any:
    """The trial's value of a dimension: "method", "stage1_lr", "objective.temperature"."""
    value = json.loads(trial.config)["method"]
    for part in ("name" if dimension == "method" else dimension).split("."):
        value = value[part]
    return value


def run_all(sweeps: Sequence[PaperSweep], storage: Path, command: str) -> int:
    """Run each sweep and draw the report. Returns 1, after a line on stderr, if one failed; 130 after Ctrl-C.

    `command` is what was typed: it goes on with what is left.
    """
    started, failed = time.monotonic(), []
    for number, sweep in enumerate(sweeps, start=1):
        print(f"== sweep {number} of {len(sweeps)}: {sweep.folder_name} ({_minutes(started)} so far)", flush=True)
        try:
            code = run_command(sweep_command(sweep, storage))
        except UserError as error:
            failed.append(f"{sweep.folder_name} ({error})")
            continue
        if code == INTERRUPTED:
            print(f"stopped; go on with: {command}", flush=True)
            return INTERRUPTED
        if code:
            failed.append(f"{sweep.folder_name} (exit code {code})")
    print(f"== report of {len(sweeps)} sweeps: {storage}/report ({_minutes(started)} so far)", flush=True)
    if code := run_command([sys.executable, "-m", "analysis", "--runs", str(storage), "--out", f"{storage}/report"]):
        failed.append(f"report (exit code {code})")
    if failed:
        print(f"failed: {', '.join(failed)}; go on with what is left: {command}", file=sys.stderr)
    return int(bool(failed))


def _minutes(started: float) -> str:
    return f"{(time.monotonic() - started) / 60:.0f} min"


def run_command(words: Sequence[str]) -> int:
    """Run a command in the repository's root until it ends, also through a Ctrl-C, which it takes itself."""
    process = subprocess.Popen(words, cwd=ROOT)
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.paper", description=__doc__.splitlines()[0])
    parser.add_argument("--storage", type=Path, default=Path("runs/paper"), help="where they are kept (runs/paper)")
    parser.add_argument(
        "--full",
        action="store_true",
        help="also all methods at 50, 90 and 95%, tables of other tasks, deeper miniatures",
    )
    parser.add_argument("--only", metavar="PATTERN", help="these sweeps alone, of all of them, such as 'compare_*'")
    words = sys.argv[1:] if arguments is None else arguments
    options = parser.parse_args(words)
    plan = read_list().plan(options.full, options.only)
    return run_all(plan, options.storage.absolute(), own_command("benchmarks.paper", *words))


if __name__ == "__main__":
    run_main(main)
