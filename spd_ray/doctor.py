"""Is this machine, or this cluster, fit for a sweep? `python -m spd_ray.doctor`: a line a check, within a minute."""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import NoReturn
from urllib.parse import urlsplit

from spd_ray.base.errors import UserError, run_main
from spd_ray.base.installation import add_version, name_missing_package
from spd_ray.checks.environment import SECRETS
from spd_ray.checks.examination import examine
from spd_ray.checks.finding import FAILED, OK, Finding


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line. Raises UserError for an address or a URI of the wrong form."""
    parser = argparse.ArgumentParser(prog="python -m spd_ray.doctor", description=__doc__.splitlines()[0])
    add_version(parser)
    parser.add_argument("--address", metavar="HOST:PORT", help="a running Ray cluster (default: this machine alone)")
    parser.add_argument("--storage", default="runs", help="where sweeps are kept: a folder or a URI (default: runs)")
    parser.add_argument("--mlflow", metavar="URI", help="the MLflow server or store (default: DIR/mlflow.db)")
    parser.add_argument("--space", metavar="FILE", help="a search space: does its model fit, is there room for it")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides", help="override a key of the space"
    )
    options = parser.parse_args(arguments)
    host, _, port = (options.address or "auto:1").rpartition(":")
    if options.address not in (None, "auto") and not (host and port.isdigit() and "/" not in host):
        raise UserError(f"--address {options.address}: HOST:PORT of a Ray cluster is needed, or auto on its head")
    if options.mlflow and not urlsplit(options.mlflow).scheme:
        raise UserError(f"--mlflow {options.mlflow}: a URI is needed, such as http://127.0.0.1:5000")
    return options


@name_missing_package("sweep", "spd_ray.doctor")
def main(arguments: Sequence[str] | None = None) -> int:
    """Run every check. Returns 1 if one failed, else 0."""
    options = parse_arguments(sys.argv[1:] if arguments is None else arguments)
    levels, spec = [], None
    if options.space:
        from spd_ray.config.load import load_spec

        spec = load_spec(options.space, options.overrides)
    for finding in examine(options.address, options.storage, options.mlflow, spec):
        print_finding(finding, [urlsplit(options.mlflow or "").password or ""])
        levels.append(finding.level)
    return int(FAILED in levels)


def print_finding(finding: Finding, secrets: Sequence[str]) -> None:
    """One line; secrets are struck out whatever brought them in."""
    text = finding.text + (f"; mend: {finding.mend}" if finding.mend and finding.level != OK else "")
    for secret in [os.environ.get(name, "") for name in SECRETS] + list(secrets):
        text = text.replace(secret, "***") if secret else text
    print(f"{finding.level:8} {finding.check:11} {' '.join(text.split())}", flush=True)


def run() -> NoReturn:
    """The command `spd-doctor`."""
    run_main(main)


if __name__ == "__main__":
    run()
