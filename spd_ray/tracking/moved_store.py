"""The built-in MLflow store where its folder was moved or copied: MLflow keeps whole paths of artifacts.

Why so: docs/decisions.md #one-mlflow-store-per-folder.
"""

import sqlite3
from contextlib import closing
from pathlib import Path

from spd_ray.records import layout

COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)


def follow_move(database: Path, artifacts: str) -> None:
    """Let the built-in store find its artifacts at the URI `artifacts`, wherever it was when they were written."""
    if not database.exists():
        return
    with closing(sqlite3.connect(database)) as connection, connection:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'model_versions'").fetchone():
            return
        known = [location for (location,) in connection.execute("SELECT artifact_location FROM experiments")]
        for before in {one for one in known if one.endswith(f"/{layout.MLFLOW_ARTIFACTS}")} - {artifacts}:
            for table, column in COLUMNS:
                connection.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE substr({column} || '/', 1, ?) = ?",
                    (artifacts, len(before) + 1, len(before) + 1, f"{before}/"),
                )
