"""The checks of this machine: versions, token, Ray's name, storage, MLflow, cache.

Nothing heavy is imported, so that a broken installation is a finding and no traceback.
"""

import importlib.util
import os
import shutil
import sqlite3
import sys
import tempfile
import urllib.error
import urllib.request
from base64 import b64encode
from pathlib import Path
from urllib.parse import urlsplit

from spd_ray.base.errors import StorageError
from spd_ray.base.installation import install_command, package_name, requirements
from spd_ray.base.network import is_uri
from spd_ray.checks import nodes
from spd_ray.checks.finding import FAILED, OK, WARNING, Finding
from spd_ray.checks.nodes import version_of
from spd_ray.records import layout

CONSTRAINTS = Path(__file__).parents[2] / "constraints.txt"
SECRETS = ("RAY_AUTH_TOKEN", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "AWS_SECRET_ACCESS_KEY")
LITTLE_SPACE = 5 * 2**30  # bytes


def check_versions() -> Finding:
    """What spd_ray requires, against what is installed and what constraints.txt has tested."""
    pins, mend = {}, install_command("sweep")
    if CONSTRAINTS.is_file():
        pins = dict(line.split("==") for line in CONSTRAINTS.read_text().splitlines() if "==" in line)
        mend = f"pip install -c {CONSTRAINTS.name} -e '.[sweep]'"
    pins = {name.lower(): version for name, version in pins.items()}
    wrong, other, required = [], [], requirements("sweep")
    for requirement in required:
        name = package_name(requirement)
        have = version_of(name)
        if have is None or not satisfies(have, requirement):
            wrong.append(f"{requirement} (here: {have or 'none'})")
        elif have != pins.get(name.lower(), have):
            other.append(f"{name.lower()} {have} (tested: {pins[name.lower()]})")
    if wrong:
        return Finding(FAILED, "versions", f"not as required: {', '.join(wrong)}", mend)
    if other:
        return Finding(WARNING, "versions", f"untested: {', '.join(other)}", mend)
    against = CONSTRAINTS.name if pins else "required (no constraints.txt here to compare with)"
    return Finding(OK, "versions", f"Python {sys.version.split()[0]}, {len(required)} packages as {against}")


def satisfies(version: str, requirement: str) -> bool:
    """Whether the version of an installed package is as required; true where nothing is installed to compare by."""
    try:
        from packaging.requirements import Requirement  # Ray brings it along
    except ModuleNotFoundError:
        return True
    return version in Requirement(requirement).specifier


def find_other_ray() -> Finding | None:
    """Why `import ray` does not give Ray: it is not installed, or a folder of its name is found in its place."""
    found, folder = importlib.util.find_spec("ray"), Path.cwd() / "ray"
    if found is None:
        return Finding(FAILED, "ray", "not installed", install_command("sweep"))
    if str(folder) not in (found.submodule_search_locations or ()):
        return None
    if version_of("ray") is None:
        text = f"not installed: {folder} only has its name, and is imported in its place"
        return Finding(FAILED, "ray", text, install_command("sweep"))
    return Finding(FAILED, "ray", f"{folder} is imported in its place", "work in another directory, or rename it")


def check_token_file() -> Finding:
    """Whether this user's Ray token is there and private. Its content is not looked at."""
    if os.environ.get("RAY_AUTH_TOKEN"):
        return Finding(
            WARNING, "token file", "the token is in RAY_AUTH_TOKEN", "keep it in a file: RAY_AUTH_TOKEN_PATH"
        )
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or "~/.ray/auth_token").expanduser()
    if not path.is_file() or path.stat().st_size == 0:
        mend = "(umask 077; ray get-auth-token --generate > /dev/null) before ray up"
        return Finding(WARNING, "token file", f"{path} is missing or empty: clusters would want it", mend)
    if path.stat().st_mode & 0o077:
        return Finding(WARNING, "token file", f"{path} is readable by others", f"chmod 600 {path}")
    return Finding(OK, "token file", f"{path} is there and private")


def nearest_existing(place: str) -> str:
    """`place` or the nearest folder above it that exists, since a check leaves no folder behind; a URI as it is."""
    if is_uri(place):
        return place
    return str(next(folder for folder in [Path(place), *Path(place).parents] if folder.exists()))


def default_mlflow(place: str) -> str:
    """The store that a sweep uses where no other is named. Raises ValueError where there is none."""
    if is_uri(place):
        raise ValueError("none is named, and no database lies in an object store; give --mlflow URI")
    return layout.mlflow_uri(Path(place))


def check_storage(place: str) -> Finding:
    """Files and folders can be written and renamed over old ones, and there is space."""
    if is_uri(place):
        return check_object_store(place)
    storage, here = place, nearest_existing(place)
    try:
        with tempfile.TemporaryDirectory(prefix=".doctor-", dir=here) as scratch:
            new, old = Path(scratch) / "new", Path(scratch) / "old"
            old.write_text("old")
            new.write_text("new")
            new.rename(old)
            if old.read_text() != "new":
                return Finding(FAILED, "storage", f"{here}: a rename does not replace", "use another file system")
            (Path(scratch) / "folder").mkdir()
            (Path(scratch) / "folder").rename(Path(scratch) / "renamed")
    except OSError as error:
        return Finding(FAILED, "storage", f"{here}: {error.strerror}", "make it writable, or give another --storage")
    free = shutil.disk_usage(here).free
    text = f"{storage}: writable, renames are whole, {free / 2**30:.1f} GiB free"
    return Finding(WARNING if free < LITTLE_SPACE else OK, "storage", text, "free some space")


def check_cache() -> Finding:
    """The cache of teachers can be written."""
    from spd_ray.base.cache import cache_root

    here = nearest_existing(str(cache_root()))
    try:
        with tempfile.TemporaryFile(dir=here):
            pass
    except OSError as error:
        text = f"{cache_root()}: cannot be written ({error.strerror})"
        return Finding(FAILED, "cache", text, "set SPD_RAY_CACHE to another folder")
    return Finding(OK, "cache", f"{cache_root()}: writable, {shutil.disk_usage(here).free / 2**30:.1f} GiB free")


def check_object_store(place: str) -> Finding:
    """What is sent can be fetched unchanged, and is gone once it is dropped."""
    from spd_ray.records.storage import SweepStorage

    try:
        with nodes.shared_place(place) as folder:
            storage = SweepStorage(folder, "doctor")
            storage.clear_copy()
            (storage.folder / "new").write_text("new")
            storage.send(storage.folder / "new")
            storage.clear_copy()
            storage.fetch(storage.folder / "new")
            if (storage.folder / "new").read_text() != "new":
                return Finding(FAILED, "storage", f"{place}: what was sent comes back changed", "use another store")
    except StorageError as error:
        return Finding(FAILED, "storage", f"{place}: {error}", "mend credentials, region and bucket, or the URI")
    return Finding(OK, "storage", f"{place}: what is sent comes back")


def check_mlflow(uri: str) -> Finding:
    """An MLflow server answers, or an SQLite store can be opened."""
    parts = urlsplit(uri)
    if parts.scheme == "sqlite":
        path = Path(uri.removeprefix("sqlite:///"))
        if not path.exists():
            return Finding(OK, "mlflow", f"{path}: not there yet, the first sweep makes it")
        try:
            sqlite3.connect(f"file:{path}?mode=rw", uri=True).execute("select count(*) from experiments")
        except sqlite3.Error as error:
            return Finding(FAILED, "mlflow", f"{path}: {error}", "is it an MLflow store, writable and not locked?")
        return Finding(OK, "mlflow", f"{path}: an MLflow store")
    if parts.scheme not in ("http", "https"):
        return Finding(
            WARNING, "mlflow", f"{parts.scheme or uri}: cannot be checked here", "give http(s):// or sqlite:///"
        )
    server = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"
    return check_mlflow_server(server, parts.username, parts.password)


def check_mlflow_server(server: str, user: str | None, password: str | None) -> Finding:
    """The server answers the client's requests under this host name and has the client's major version."""
    user, password = user or os.environ.get("MLFLOW_TRACKING_USERNAME"), password or os.environ.get(SECRETS[1])
    headers = {}
    if user:
        headers["Authorization"] = "Basic " + b64encode(f"{user}:{password}".encode()).decode()
    elif os.environ.get(SECRETS[2]):
        headers["Authorization"] = f"Bearer {os.environ[SECRETS[2]]}"
    try:
        theirs = fetch_page(f"{server}/version", headers)
        fetch_page(f"{server}/api/2.0/mlflow/experiments/search?max_results=1", headers)
    except urllib.error.HTTPError as error:
        mend = {
            401: "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
            403: f"start it with --allowed-hosts {urlsplit(server).netloc}, or use a login that may read",
        }.get(error.code, "is it an MLflow server?")
        return Finding(FAILED, "mlflow", f"{server} answers {error.code}", mend)
    except OSError as error:
        mend = "is it running, and is this its host and port (ssh -L where it listens on a loopback)?"
        return Finding(FAILED, "mlflow", f"{server}: {getattr(error, 'reason', error)}", mend)
    ours = version_of("mlflow") or "none"
    if theirs.split(".")[0] != ours.split(".")[0]:
        return Finding(FAILED, "mlflow", f"{server} is version {theirs}, the client {ours}", "install the same version")
    return Finding(OK, "mlflow", f"{server} answers, version {theirs}")


def fetch_page(url: str, headers: dict[str, str]) -> str:
    """The first 40 bytes of what is at `url`. Raises OSError, among them HTTPError for a status that is an error."""
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=5) as answer:
        return str(answer.read(40).decode(errors="replace")).strip()
