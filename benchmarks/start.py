"""From the command to the first trial's first step: `python -m benchmarks.start`.

A sweep of the demo is started and interrupted at its first step; the first time makes the miniature and its
teacher, and does not count. Printed: seconds until the preflight has passed and until the first step, and of all
processes of the sweep the seconds of the processor until then, which other work on the machine changes less.
"""

import argparse
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[1]
SPACE = "search_spaces/demo.yaml"
LIFE = " stage "  # of the line that shows a trial's steps


class Start(NamedTuple):
    """Seconds until the preflight has passed and until the first step; the processor's until then, by process."""

    preflight: float
    first_step: float
    processor: dict[str, float]


def start_once(settings: list[str]) -> Start:
    """Start the sweep in a folder of its own, and interrupt it at its first step."""
    with tempfile.TemporaryDirectory() as storage, open(Path(storage) / "out", "w+") as out:
        began = time.monotonic()
        words = [sys.executable, "-m", "spd_ray.sweep", "--space", SPACE, "--storage", storage]
        words += [word for setting in settings for word in ("--set", setting)]
        driver = psutil.Popen(words, cwd=ROOT, stdout=out, stderr=subprocess.STDOUT)
        passed = seconds_until("preflight:", out.name, began, driver)
        first = seconds_until(LIFE, out.name, began, driver)
        processor = processor_seconds(driver)
        driver.send_signal(signal.SIGINT)
        driver.wait()
        return Start(passed, first, processor)


def seconds_until(text: str, output: str, began: float, driver: psutil.Popen) -> float:
    """Wait until `text` is in the file `output`. Raises RuntimeError where the driver ends before."""
    while text not in Path(output).read_text():
        if driver.poll() is not None:
            raise RuntimeError(Path(output).read_text())
        time.sleep(0.1)
    return time.monotonic() - began


def processor_seconds(driver: psutil.Popen) -> dict[str, float]:
    """Of the driver, Ray's own processes and the workers."""
    seconds = dict.fromkeys(("driver", "Ray", "workers"), 0.0)
    for process in [driver, *driver.children(recursive=True)]:
        times, name = process.cpu_times(), " ".join(process.cmdline())
        worker = name.startswith("ray::") and "Agent" not in name
        kind = "driver" if process.pid == driver.pid else "workers" if worker else "Ray"
        seconds[kind] += times.user + times.system
    return seconds


def rows(starts: list[Start]) -> Iterator[tuple[str, str, str]]:
    """What the table shows: the median, and the least and the most."""
    columns = {
        "preflight passed": [one.preflight for one in starts],
        "first step": [one.first_step for one in starts],
        **{f"processor: {kind}": [one.processor[kind] for one in starts] for kind in starts[0].processor},
        "processor: all": [sum(one.processor.values()) for one in starts],
    }
    for name, values in columns.items():
        yield name, f"{statistics.median(values):.1f}", f"{min(values):.1f} to {max(values):.1f}"


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.start", description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="such as resources.concurrent=1"
    )
    options = parser.parse_args()
    starts = [start_once(options.set) for _ in range(options.times + 1)][1:]
    table = Table("seconds until", "median", "range", title=f"start of a sweep, {options.times} times")
    for row in rows(starts):
        table.add_row(*row)
    Console().print(table)


if __name__ == "__main__":
    main()
