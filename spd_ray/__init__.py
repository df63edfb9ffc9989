"""Sparse Progressive Distillation (Huang et al., ACL 2022, arXiv:2110.08190) as a system to sweep with.

From a notebook, what `python -m spd_ray.sweep` does from a shell:

    from spd_ray import run_sweep
    result = run_sweep("search_spaces/demo.yaml", trials=4, set={"method.target_sparsity": 0.9})
    result.best, result.checkpoint, result.trials

Importing it takes no time and needs nothing installed.

Why so: docs/decisions.md #two-ways-in.
"""

from collections.abc import Mapping
from os import PathLike
from typing import Any, Literal

from spd_ray.base.errors import UserError
from spd_ray.driver.result import SweepResult

__all__ = ["SweepResult", "UserError", "__version__", "load_semi_structured", "load_sparse", "run_sweep"]


def run_sweep(
    space: str | PathLike[str] | Mapping[str, Any],
    *,
    trials: int | None = None,
    set: Mapping[str, Any] | None = None,
    name: str | None = None,
    method: str | None = None,
    profile: Literal["mini"] | None = None,
    storage: str | PathLike[str] = "runs",
    resume: bool = False,
    replace: bool = False,
    address: str | None = None,
    allow_code: bool = False,
    push_to_hub: str | None = None,
) -> SweepResult:
    """Run a sweep to its end and return its best trial, that trial's checkpoint and the table of all trials.

    The arguments are the command's, by the same names; progress and the summary are printed.

    Args:
        space: A search space's YAML file, or the mapping that it would hold (then with a `name`).
        trials: How many configurations; each runs under every seed.
        set: Keys of the space to override, such as `{"method.p0": 0.6, "study.seeds": [0, 1]}`.
        name: Of the sweep and its folder; the file's if None.
        method: Run this method with its own dimensions, a file of spd_ray/config/methods, or
            "FILE.yaml", one of your own.
        profile: "mini" lays the miniature's task, model and budget over the space.
        storage: Where sweeps are kept: a folder, or a URI such as "s3://bucket/runs".
        resume: Continue the sweep of this name.
        replace: Move an earlier sweep of this name aside.
        address: HOST:PORT of a running Ray cluster; this machine alone if None.
        allow_code: Run metrics of your own, "module:function" under `task`.
        push_to_hub: OWNER/NAME on the Hugging Face Hub, to which the best student is pushed at the end.

    Raises:
        UserError: For whatever a user can mend, in one line; an argument is named as on the command line (`--set`).

    Ctrl-C stops the sweep: the result is then marked `interrupted`, and `resume=True` goes on.
    """
    from spd_ray.base.installation import name_missing_package

    with name_missing_package("sweep", "spd_ray.run_sweep"):
        from spd_ray.base import user_code
        from spd_ray.driver.start import read_space, settings_of, shell_command, start_sweep

        if allow_code:
            user_code.allow_code()
        settings = settings_of(set or {})
        spec = read_space(space, settings, trials, name, method, profile)
        command = None
        if not isinstance(space, Mapping):
            asked = {"trials": trials, "name": name, "method": method, "profile": profile, "set": settings}
            how = {"storage": storage, "resume": resume, "replace": replace, "address": address}
            how |= {"allow-code": allow_code, "push-to-hub": push_to_hub}
            command = shell_command(space=space, **asked, **how)
        return start_sweep(spec, str(storage), resume, replace, address, command, push_to_hub)


def load_sparse(folder: str | PathLike[str]) -> Any:
    """The packed student in `folder`, as `python -m spd_ray.deploy` writes it: it answers as transformers' model does.

    Raises UserError where it is broken or absent.
    """
    from pathlib import Path

    from spd_ray.base.installation import name_missing_package

    with name_missing_package("sweep", "spd_ray.load_sparse"):
        from spd_ray.kernels.encoder import load_sparse as load

        return load(Path(folder))


def load_semi_structured(checkpoint: str | PathLike[str], precision: Literal["fp16", "bf16"] = "fp16") -> Any:
    """The student in the folder `checkpoint` on this machine's GPU, its 2:4 matrices in torch's semi-structured format.

    It answers as transformers' model does. Raises UserError where no matrix is 2:4 (`method.pattern: "2:4"` makes such
    students), and without an NVIDIA GPU that has sparse tensor cores.
    """
    from pathlib import Path

    from spd_ray.base.installation import name_missing_package

    with name_missing_package("sweep", "spd_ray.load_semi_structured"):
        from spd_ray.kernels.semi_structured import to_semi_structured
        from spd_ray.training.checkpoint import load_checkpoint

        return to_semi_structured(load_checkpoint(Path(checkpoint)), precision)


def __getattr__(name: str) -> str:
    if name == "__version__":
        from spd_ray.base.installation import version

        return version()
    raise AttributeError(f"module 'spd_ray' has no attribute {name!r}")
