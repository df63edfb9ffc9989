"""The sweep's place before its first trial: created, checked for a resume, or moved aside; the command to resume.

Why so: docs/decisions.md #auto-is-resolved-once.
"""

import shlex
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from spd_ray.base.errors import UserError, counted
from spd_ray.base.files import remove_unfinished
from spd_ray.base.installation import own_command
from spd_ray.base.network import is_uri, join_place
from spd_ray.config import auto
from spd_ray.config.load import load_spec
from spd_ray.config.sweep import SweepSpec
from spd_ray.config.yaml_file import yaml_text
from spd_ray.records import layout
from spd_ray.records.lease import leased
from spd_ray.records.provenance import TEACHER_FILES, read_sweep_yaml
from spd_ray.records.schema import SCHEMA_VERSION
from spd_ray.records.storage import SweepStorage
from spd_ray.records.trials import read_trials

KINDS = {
    "data": "the task's examples",
    "model": "the pretrained model's files",
    "teacher": "the teacher",
    TEACHER_FILES: "the teacher's files",
}


def place_of(storage: str, spec: SweepSpec) -> SweepStorage:
    """The place of the sweep. Raises UserError for a URI that cannot be used."""
    if not is_uri(storage):
        return SweepStorage(join_place(str(Path(storage).resolve()), spec.name), "driver")
    if spec.tracking.uri is None:
        raise UserError(f"--storage {storage}: no database lies there; give --set tracking.uri=http://HOST:5000 too")
    return SweepStorage(join_place(storage, spec.name), "driver")


@contextmanager
def open_sweep(
    storage: SweepStorage, spec: SweepSpec, resume: bool, replace: bool, check_first: Callable[[SweepSpec], None]
) -> Iterator[SweepSpec]:
    """Create or find the sweep's folder, and lock it against a second driver for the block.

    In the block stands `spec` as it is to be run: where the sweep goes on, `auto` is what it was before. `check_first`
    is called with it before anything is changed; a new folder that holds nothing at the end is removed again.
    """
    folder = storage.folder
    new = [one for one in (folder, *folder.parents) if not one.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
        lock = FileLock(layout.sweep_lock(folder), timeout=1)
        lock.acquire()
    except Timeout:
        raise UserError(f"{folder}: another sweep of this name is running; wait for it or give --name") from None
    except OSError as error:
        raise UserError(f"--storage {folder.parent}: cannot be written ({error.strerror})") from None
    try:
        with leased(storage, print) as confirm_lease:
            storage.clear_copy()
            storage.fetch_files()
            spec = begin_or_continue(storage, spec, resume, replace, check_first)
            confirm_lease()
            yield spec
    finally:
        remove_empty(new, Path(lock.lock_file))
        lock.release()


def remove_empty(folders: Sequence[Path], lock: Path) -> None:
    """Remove those of the new `folders`, the innermost first, that hold nothing; `lock` goes with its own."""
    with suppress(OSError):
        for folder in folders:
            if folder == lock.parent:
                lock.unlink()
            folder.rmdir()


def begin_or_continue(
    storage: SweepStorage, spec: SweepSpec, resume: bool, replace: bool, check_first: Callable[[SweepSpec], None]
) -> SweepSpec:
    """Check that the folder fits a new sweep, or `--resume`, then all else; for `--replace` move a sweep aside last.

    Returns `spec`, for `--resume` with what `auto` was resolved to when the sweep was begun.
    """
    folder, place = storage.folder, storage.place
    remove_unfinished(folder)
    trials = read_trials(folder)
    if trials and replace and storage.is_remote:
        raise UserError(f"--replace: {place} cannot be moved aside in an object store; give another --name")
    if trials and not (resume or replace):
        raise UserError(
            f"{place} holds a sweep of {counted(len(trials), 'trial')}: add --resume, --replace or another --name"
        )
    if resume and not trials:
        raise UserError(f"--resume: {place} holds no sweep yet; leave --resume out")
    if resume and not replace:
        spec = continued(place, read_sweep_yaml(folder), spec)
    check_first(spec)
    if trials and replace:
        aside = layout.place_aside(folder)
        folder.rename(aside)
        folder.mkdir()
        print(f"the earlier sweep of {counted(len(trials), 'trial')} is now {aside}")
    return spec


def continued(place: str, begun: dict[str, Any], spec: SweepSpec) -> SweepSpec:
    """`spec` with what `auto` was in the sweep that was `begun`, as its sweep.yaml has it.

    Raises UserError where the two are not the same sweep.
    """
    check_version(place, begun)
    spec = auto.as_begun(spec, begun["spec"])
    if begun["space_hash"] != spec.space_hash():
        raise UserError(f"--resume: {place} {describe_change(load_spec(begun['spec']), spec)}")
    return spec


def begun_content(storage: SweepStorage) -> dict[str, str]:
    """The teacher's content that the trials of the sweep in `storage` have; empty where it has no trials."""
    return read_sweep_yaml(storage.folder).get("content", {}) if read_trials(storage.folder) else {}


def check_content(place: str, begun: Mapping[str, str], content: Mapping[str, str]) -> None:
    """Raises UserError where the sweep in `place` was `begun` with another content than this."""
    for kind, name in KINDS.items():
        if kind in content and begun.get(kind, content[kind]) != content[kind]:
            raise UserError(
                f"--resume: {place} was begun with {name} of other content ({begun[kind]}, now "
                f"{content[kind]}): put back what was there, or give another --name"
            )


def begun_space(place: str, name: str) -> dict[str, Any]:
    """The resolved space that the sweep `name` in the storage `place` was begun with, for `--resume` without `--space`.

    Raises UserError where there is none.
    """
    storage = SweepStorage(join_place(place if is_uri(place) else str(Path(place).resolve()), name), "resume")
    file = layout.sweep_yaml(storage.folder)
    storage.fetch(file)
    if not file.is_file():
        raise UserError(f"--resume: {storage.place} holds no sweep yet; --space FILE begins one")
    begun = dict(yaml.safe_load(file.read_text()))
    check_version(storage.place, begun)
    return dict(begun["spec"])


def check_version(place: str, begun: dict[str, Any]) -> None:
    """Raises UserError for a sweep whose records an earlier version began."""
    version = begun.get("schema_version", "2 or older")
    if version != SCHEMA_VERSION:
        raise UserError(
            f"--resume: {place} was begun by an earlier version (its records' schema is {version}, now "
            f"{SCHEMA_VERSION}): `python -m analysis` still draws it, but it cannot go on; give another --name"
        )


def describe_change(begun: SweepSpec, now: SweepSpec) -> str:
    """Which key of what decides results is another now than when the sweep was begun, and what to do."""
    before, after = (flat_identity(spec) for spec in (begun, now))
    changed = [key for key in dict.fromkeys([*before, *after]) if before.get(key) != after.get(key)]
    if not changed:
        return "was begun with another version of spd_ray or of a method or preset; give another --name"
    first, *others = changed
    also = f"; {len(others)} more differ: {', '.join(others[:5])}" if others else ""
    values = f"{first} = {before.get(first, 'not there')}, and now it is {after.get(first, 'not there')}"
    return f"was begun with {values}{also}; leave --space and --set out to go on as it was, or give another --name"


def flat_identity(spec: SweepSpec) -> dict[str, str]:
    """`SweepSpec.identity` as dotted keys and values in YAML's words; of one method without its name."""
    flat: dict[str, str] = {}

    def add(path: tuple[str, ...], value: Any) -> None:
        if isinstance(value, dict) and value:
            for key, inner in value.items():
                add((*path, str(key)), inner)
        else:
            only = path[0] == "method" and len(spec.methods()) == 1
            flat[".".join(path[:1] + path[2:] if only else path)] = yaml_text(value)

    for section, value in spec.identity().items():
        add((section,), value)
    return flat


def go_on_command(folder: Path, command: str) -> str:
    """What continues what `command` began, or begins it again if it has not come to a trial; to be pasted here."""
    words = shlex.split(resume_command(command) if read_trials(folder) else command)
    return own_command(*words[2:]) if words[:2] == ["python", "-m"] else shlex.join(words)


def resume_command(command: str) -> str:
    """The command that continues what `command` began."""
    words = [word for word in shlex.split(command) if word not in ("--replace", "--resume")]
    return shlex.join([*words, "--resume"])
