"""Every figure, table and claim of the paper on the miniature: `python -m benchmarks.paper`, or `make paper`.

The sweeps are listed in paper.yaml. Each is a command of its own, so that one that fails, even one that takes its
process with it, leaves the others alone; what was begun is resumed. Here, since it runs the repository's spaces and
measures: what is installed has neither.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import yaml

from spd_ray.base.errors import INTERRUPTED, run_main
from spd_ray.config.section import Section
from spd_ray.records.trials import read_trials

ROOT = Path(__file__).parents[1]
LIST = Path(__file__).with_suffix(".yaml")


class PaperSweep(Section):
    """One sweep: a space, and what is laid over it."""

    space: str
    profile: Literal["mini"] | None = None
    name: str | None = None
    set: tuple[str, ...] = ()

    @property
    def folder_name(self) -> str:
        """The sweep's name, which is its folder's."""
        return self.name or Path(self.space).stem


class PaperList(Section):
    """paper.yaml: the sweeps in their order, and the paper's spaces that are left out, each with the reason."""

    sweeps: tuple[PaperSweep, ...]
    left_out: dict[str, str]


def read_list(path: Path = LIST) -> PaperList:
    """The list of sweeps."""
    return PaperList.model_validate(yaml.safe_load(path.read_text()))


def sweep_command(sweep: PaperSweep, storage: Path) -> list[str]:
    """The command that begins the sweep, or goes on with what `storage` has of it."""
    words = [sys.executable, "-m", "spd_ray.sweep", "--space", sweep.space, "--storage", str(storage)]
    for option, value in (("--profile", sweep.profile), ("--name", sweep.name)):
        words += [option, value] if value else []
    for setting in sweep.set:
        words += ["--set", setting]
    return [*words, "--resume"] if read_trials(storage / sweep.folder_name) else words


def run_all(sweeps: Sequence[PaperSweep], storage: Path) -> int:
    """Run each sweep and draw the report. Returns 1, after a line on stderr, if one failed; 130 after Ctrl-C."""
    started, failed = time.monotonic(), []
    for number, sweep in enumerate(sweeps, start=1):
        minutes = (time.monotonic() - started) / 60
        print(f"== sweep {number} of {len(sweeps)}: {sweep.folder_name} ({minutes:.0f} min so far)", flush=True)
        code = run_command(sweep_command(sweep, storage))
        if code == INTERRUPTED:
            print("stopped; go on with: make paper", flush=True)
            return INTERRUPTED
        if code:
            failed.append(f"{sweep.folder_name} (exit code {code})")
    print(f"== report of {len(sweeps)} sweeps: {storage}/report", flush=True)
    if code := run_command([sys.executable, "-m", "analysis", "--runs", str(storage), "--out", f"{storage}/report"]):
        failed.append(f"report (exit code {code})")
    if failed:
        print(f"failed: {', '.join(failed)}; make paper goes on with what is left", file=sys.stderr)
    return int(bool(failed))


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
    options = parser.parse_args(arguments)
    return run_all(read_list().sweeps, options.storage.absolute())


if __name__ == "__main__":
    run_main(main)
