"""A checkpoint from wherever it lies: a folder, an object store, MLflow's registry."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
from pyarrow import fs

from spd_ray.base.errors import UserError
from spd_ray.base.network import is_uri
from spd_ray.records.storage import open_store

REGISTRY = "models:/"


@contextmanager
def checkpoint_folder(source: str, mlflow_uri: str | None) -> Iterator[Path]:
    """The folder of the checkpoint at a path, a URI or models:/NAME@ALIAS; what was downloaded is gone after the block.

    `mlflow_uri` is where models:/ looks, MLFLOW_TRACKING_URI's if None. Raises UserError where it is not there.
    """
    if not source.startswith(REGISTRY) and not is_uri(source):
        yield Path(source)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / Path(source).name.replace("@", "-")
        if source.startswith(REGISTRY):
            from spd_ray.tracking.mlflow_store import download_model  # here, for MLflow takes seconds

            download_model(source, mlflow_uri, folder)
        else:
            _download(source, folder)
        yield folder


def _download(uri: str, folder: Path) -> None:
    folder.mkdir()
    store, path = open_store(uri)
    try:
        fs.copy_files(path, str(folder), source_filesystem=store, destination_filesystem=fs.LocalFileSystem())
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{uri}: {' '.join(str(error).split())[:300]}") from None
