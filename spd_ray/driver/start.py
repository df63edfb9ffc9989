"""A sweep from what was asked for to its result: the command and the notebook's `run_sweep` are two ways in here.

What takes seconds to import is imported when the space has been read: an error in it need not wait.

Why so: docs/decisions.md #two-ways-in.
"""

import shlex
import socket
import sys
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
from rich.console import Console

from spd_ray.base.environment import gpus_hidden
from spd_ray.base.errors import UserError, storage_refusal
from spd_ray.base.files import write_whole
from spd_ray.base.imports import import_quickly
from spd_ray.base.network import is_uri
from spd_ray.base.signals import sigterm_as_interrupt
from spd_ray.base.user_code import code_is_allowed
from spd_ray.config.load import load_spec
from spd_ray.config.sweep import SweepSpec
from spd_ray.config.yaml_file import yaml_text
from spd_ray.driver.place import go_on_command, open_sweep, place_of
from spd_ray.driver.result import SweepResult
from spd_ray.records.layout import space_yaml
from spd_ray.records.schema import TRIAL_SCHEMA, TrialRecord
from spd_ray.records.storage import SweepStorage
from spd_ray.records.trials import read_trials

COMMAND = "python -m spd_ray.sweep"


def read_space(
    space: str | PathLike[str] | Mapping[str, Any],
    settings: Sequence[str],
    trials: int | None,
    name: str | None,
    method: str | None,
    profile: Literal["mini"] | None,
) -> SweepSpec:
    """The search space with what is laid over it; `settings` are of the form `key=value`."""
    settings = list(settings)
    if trials is not None:
        settings.append(f"study.trials={trials}")
    if name is not None:
        settings.append(f"name={name}")
    return load_spec(space, settings, method, profile)


def start_sweep(
    spec: SweepSpec,
    place: str,
    resume: bool,
    replace: bool,
    address: str | None,
    command: str | None,
    push_to: str | None = None,
) -> SweepResult:
    """Run the sweep in the storage `place`, or go on with it. Raises UserError for what a user can mend.

    `command` does the same from a shell; where it is None the sweep's folder gets a `space.yaml` to begin with again.
    The best student is pushed to the hub's repository `push_to`, when all else is done.
    """
    console = new_console()
    if push_to is not None:
        from spd_ray.tracking.hub import check_hub

        check_hub(push_to)
    check_address(address)
    check_ray_is_free()
    storage = place_of(place, spec)
    written = None if command else space_yaml(storage.folder)
    command = command or shell_command(
        space=storage.shown(space_yaml(storage.folder)),
        storage=place,
        **{"allow-code": code_is_allowed(), "push-to-hub": push_to},
    )
    best, interrupted = None, False

    def check_first(spec: SweepSpec) -> None:
        import_quickly("spd_ray.driver.first_checks").check_first(spec, whole_place(place), address, console)

    try:
        with sigterm_as_interrupt(), gpus_hidden(), open_sweep(storage, spec, resume, replace, check_first) as spec:
            console.print(f"sweep {spec.name}: {spec.describe_size()}, in {storage.place}", soft_wrap=True)
            if written:
                write_whole(written, spec.to_yaml())
            best = import_quickly("spd_ray.driver.run").train_trials(spec, storage, command, address, console)
    except UserError:
        raise
    except KeyboardInterrupt:
        interrupted = True
        console.print(f"stopped; go on with: {go_on_command(storage.folder, command)}", soft_wrap=True)
    except Exception as error:
        refusal = storage_refusal(error)
        if refusal is None:
            raise
        raise UserError(
            f"{storage.place}: {refusal}; mend that and go on with: {go_on_command(storage.folder, command)}"
        ) from None
    result = collect_result(storage, best, interrupted)
    if push_to is not None and result.checkpoint is not None:
        push_best(str(result.checkpoint), push_to, console)
    return result


def push_best(checkpoint: str, repo: str, console: Console) -> None:
    """Push a finished sweep's best student. Raises UserError with the command that pushes it later."""
    from spd_ray.tracking import hub
    from spd_ray.tracking.taken import checkpoint_folder

    try:
        with checkpoint_folder(checkpoint, None) as folder:
            console.print(f"pushed to {hub.push_checkpoint(folder, repo, packed=False)}", soft_wrap=True)
    except UserError as error:
        later = hub.push_command(checkpoint, repo)
        raise UserError(f"{error}; the sweep is whole; push its best student with: {later}") from None


def start_dry_run(spec: SweepSpec, place: str, address: str | None) -> None:
    """Say what the sweep in the storage `place` would do and cost. Raises UserError as `start_sweep` does."""
    check_address(address)
    with gpus_hidden():
        import_quickly("spd_ray.driver.dry_run").dry_run(spec, whole_place(place), address, new_console())


def whole_place(place: str) -> str:
    """The storage as an absolute path, or its URI."""
    return place if is_uri(place) else str(Path(place).resolve())


def collect_result(storage: SweepStorage, best: TrialRecord | None, interrupted: bool) -> SweepResult:
    """What lies in the sweep's folder, and the trial that was found best."""

    def locate(path: Path) -> Path | str:
        return storage.shown(path) if storage.is_remote else path

    rows = [{name: getattr(trial, name) for name in TRIAL_SCHEMA.names} for trial in read_trials(storage.folder)]
    return SweepResult(
        folder=storage.place if storage.is_remote else storage.folder,
        trials=pa.Table.from_pylist(rows, schema=TRIAL_SCHEMA),
        best=best,
        checkpoint=locate(storage.folder / best.checkpoint) if best and best.checkpoint else None,
        interrupted=interrupted,
    )


def new_console() -> Console:
    """Where progress and the summary go: stdout, unwrapped where no person reads it as it comes."""
    return Console(soft_wrap=not sys.stdout.isatty())


def shell_command(**options: Any) -> str:
    """The sweep command with these options; what is None or False is left out, a list is one option per value.

    >>> shell_command(space="x.yaml", trials=4, name=None, resume=True, set=["method.p0=0.6"])
    'python -m spd_ray.sweep --space x.yaml --trials 4 --resume --set method.p0=0.6'
    """
    words = COMMAND.split()
    for name, value in options.items():
        if value is True:
            words.append(f"--{name}")
        elif value is not None and value is not False:
            values = value if isinstance(value, list) else [value]
            words += [word for one in values for word in (f"--{name}", str(one))]
    return shlex.join(words)


def settings_of(values: Mapping[str, Any]) -> list[str]:
    """`values` as `--set` takes them.

    >>> settings_of({"method.p0": 0.6, "study.seeds": (0, 1), "early_stopping": None})
    ['method.p0=0.6', 'study.seeds=[0, 1]', 'early_stopping=null']
    """
    return [f"{key}={yaml_text(value)}" for key, value in values.items()]


def check_ray_is_free() -> None:
    """Raises UserError where this process has joined a Ray cluster: the sweep joins its own, and leaves it."""
    ray = sys.modules.get("ray")
    if ray is not None and ray.is_initialized():
        raise UserError("Ray runs in this process already: call ray.shutdown() first; address=... joins a cluster")


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
