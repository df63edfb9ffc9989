"""The sweep: one Optuna study whose trials Ray Tune places. `python -m spd_ray.sweep --space x.yaml`.

This is its command. What is wrong with it or with a space is told before the driver is imported, which takes seconds.
"""

import argparse
import gc
import shlex
import socket
import sys
from collections.abc import Sequence

from rich.console import Console

from spd_ray.base.errors import INTERRUPTED, UserError, run_main, storage_refusal
from spd_ray.config.load import load_spec
from spd_ray.config.methods import METHODS
from spd_ray.driver.place import go_on_command, open_sweep, place_of


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line of `python -m spd_ray.sweep`."""
    parser = argparse.ArgumentParser(prog="python -m spd_ray.sweep", description=__doc__.splitlines()[0])
    parser.add_argument("--space", metavar="FILE", help="the search space, such as search_spaces/demo.yaml")
    parser.add_argument(
        "--method", metavar="NAME", help=f"run this method with its own dimensions: {', '.join(METHODS)}"
    )
    parser.add_argument(
        "--profile", choices=("mini",), help="lay the miniature's task, model and budget over the space"
    )
    parser.add_argument("--trials", type=int, metavar="N", help="how many configurations (each runs under every seed)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides", help="override a key of the space"
    )
    parser.add_argument("--name", help="name of the sweep and its folder (default: the space's name)")
    parser.add_argument(
        "--storage",
        default="runs",
        metavar="DIR",
        help="where sweeps are kept: a folder, or a URI such as s3://bucket/runs (default: runs)",
    )
    parser.add_argument("--resume", action="store_true", help="continue the sweep of this name")
    parser.add_argument("--replace", action="store_true", help="move an earlier sweep of this name aside")
    parser.add_argument("--dry-run", action="store_true", help="print space, schedules and cost, and run two steps")
    parser.add_argument("--address", metavar="HOST:PORT", help="a running Ray cluster (default: this machine alone)")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, resume or dry-run a sweep. Returns the exit code; raises UserError for what a user can mend."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = parse_arguments(arguments)
    overrides = list(options.overrides)
    if options.trials is not None:
        overrides.append(f"study.trials={options.trials}")
    if options.name is not None:
        overrides.append(f"name={options.name}")
    console = Console(soft_wrap=not sys.stdout.isatty())
    if options.space is None:
        if options.method is None or not options.dry_run:
            raise UserError("--space FILE is missing, such as --space search_spaces/demo.yaml")
        from spd_ray.driver import dry_run as dryrun

        dryrun.explain_method(options.method, console)
        return 0
    spec = load_spec(options.space, overrides, options.method, options.profile)
    check_address(options.address)
    if options.dry_run:
        from spd_ray.driver import dry_run as dryrun

        dryrun.dry_run(spec, console)
        return 0

    command = "python -m spd_ray.sweep " + shlex.join(arguments)
    storage = place_of(options.storage, spec)
    folder = storage.folder
    try:
        with open_sweep(storage, spec, options.resume, options.replace):
            console.print(f"sweep {spec.name}: {spec.describe_size()}, in {storage.place}", soft_wrap=True)
            gc.disable()  # modules are no garbage: the import takes a quarter less time without looking for it
            from spd_ray.driver.run import run_sweep

            gc.freeze()
            gc.enable()
            return run_sweep(spec, storage, command, options.address, console)
    except UserError:
        raise
    except KeyboardInterrupt:  # before or after the trials: during them Tune takes it
        console.print(f"stopped; go on with: {go_on_command(folder, command)}", soft_wrap=True)
        return INTERRUPTED
    except Exception as error:
        refusal = storage_refusal(error)
        if refusal is None:
            raise
        raise UserError(
            f"{storage.place}: {refusal}; mend that and go on with: {go_on_command(folder, command)}"
        ) from None


def check_address(address: str | None) -> None:
    """Raises UserError where nobody listens at `address`; Ray itself would try for minutes."""
    if address is None or address in ("auto", "local"):
        return
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdigit():
        raise UserError(f"--address {address}: HOST:PORT of a running Ray cluster is needed, such as 10.0.0.1:6379")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError as error:
        raise UserError(f"--address {address}: no Ray cluster answers there ({error})") from None


if __name__ == "__main__":
    run_main(main)
