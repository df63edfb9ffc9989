"""The sweep: one Optuna study whose trials Ray Tune places. `python -m spd_ray.sweep --space x.yaml`.

This is its command line; driver/start.py does what it says, for a notebook too.

Why so: docs/decisions.md #two-ways-in.
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from typing import NoReturn

from spd_ray.base.errors import INTERRUPTED, UserError, run_main
from spd_ray.base.installation import add_version, name_missing_package
from spd_ray.base.user_code import allow_code
from spd_ray.config import METHODS


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line of `python -m spd_ray.sweep`."""
    parser = argparse.ArgumentParser(prog="python -m spd_ray.sweep", description=__doc__.splitlines()[0])
    add_version(parser)
    parser.add_argument("--space", metavar="FILE", help="the search space, such as search_spaces/demo.yaml")
    parser.add_argument(
        "--method",
        metavar="NAME",
        help=f"run this method with its own dimensions: {', '.join(METHODS)}, or FILE.yaml, one of your own",
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
    parser.add_argument(
        "--resume",
        action="store_true",
        help="continue the sweep of this --name, as it was begun: --space and --set may be left out",
    )
    parser.add_argument("--replace", action="store_true", help="move an earlier sweep of this name aside")
    parser.add_argument("--dry-run", action="store_true", help="print space, schedules and cost, and run two steps")
    parser.add_argument("--allow-code", action="store_true", help="run metrics of your own, module:function")
    parser.add_argument(
        "--push-to-hub", metavar="REPO", help="push the best student to OWNER/NAME of the Hugging Face Hub at the end"
    )
    parser.add_argument("--address", metavar="HOST:PORT", help="a running Ray cluster (default: this machine alone)")
    return parser.parse_args(arguments)


@name_missing_package("sweep", "spd_ray.sweep")
def main(arguments: Sequence[str] | None = None) -> int:
    """Run, resume or dry-run a sweep. Returns the exit code; raises UserError for what a user can mend."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = parse_arguments(arguments)
    from spd_ray.driver.start import COMMAND, new_console, read_space, start_dry_run, start_sweep

    space = options.space
    if space is None and options.resume and options.name:
        from spd_ray.driver.place import begun_space

        space = begun_space(options.storage, options.name)
    elif space is None:
        if options.method is None or not options.dry_run:
            raise UserError(
                "--space FILE is missing, such as --space search_spaces/demo.yaml; "
                "--name NAME --resume goes on with a sweep that was begun"
            )
        from spd_ray.config.load import find_method
        from spd_ray.driver.dry_run import explain_method

        explain_method(*find_method(options.method), new_console())
        return 0
    if options.allow_code:
        allow_code()
    spec = read_space(space, options.overrides, options.trials, options.name, options.method, options.profile)
    if options.dry_run:
        start_dry_run(spec, options.storage, options.address)
        return 0
    command = f"{COMMAND} {shlex.join(arguments)}"
    result = start_sweep(
        spec, options.storage, options.resume, options.replace, options.address, command, options.push_to_hub
    )
    return INTERRUPTED if result.interrupted else int(result.best is None)


def run() -> NoReturn:
    """The command `spd-sweep`."""
    run_main(main)


if __name__ == "__main__":
    run()
