"""The preflight of a sweep and of a dry run, while what they need then is imported.

Why so: docs/decisions.md #the-first-step-in-seconds.
"""

import logging
import os
import time

from rich.console import Console

from spd_ray.base.imports import imported_beside
from spd_ray.base.ray_cluster import join_ray, leave_ray
from spd_ray.base.signals import pass_sigterm_on
from spd_ray.checks.examination import ExaminedSpace, preflight
from spd_ray.checks.finding import WARNING
from spd_ray.config.sweep import SweepSpec

SLOW = ("spd_ray.checks.model_fit", "spd_ray.tracking.mlflow_store")  # none imports Ray, which is started meanwhile


def check_first(spec: SweepSpec, storage: str, address: str | None, console: Console) -> ExaminedSpace:
    """The preflight: prints what is not as it should be and joins the cluster, which `train_trials` leaves.

    Raises UserError for what has failed.
    """
    began, count, space = time.monotonic(), 0, ExaminedSpace(spec, storage)
    try:
        with imported_beside(SLOW):
            for finding in preflight(space, address, lambda: start_ray(address)):
                count += 1
                if finding.level == WARNING:
                    console.print(f"{finding.check}: {finding.text}; {finding.mend}", soft_wrap=True, markup=False)
    except BaseException:
        leave_ray()
        raise
    console.print(f"preflight: {count} checks passed in {time.monotonic() - began:.0f} s")
    return space


def start_ray(address: str | None) -> None:
    """Join the cluster at `address`, or start one of this machine alone, with the sweep's own display."""
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    join_ray(address, "ERROR")
    pass_sigterm_on()
