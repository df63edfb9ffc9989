"""Records to Parquet files that are whole whenever they are visible."""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from spd_ray.records.schema import StepRecord, TrialRecord


def write_parquet(records: Sequence[StepRecord] | Sequence[TrialRecord], schema: pa.Schema, path: Path) -> None:
    """Write `records` to `path`: readers see all or nothing, and what they see outlives a power cut."""
    columns = {field.name: pa.array([getattr(one, field.name) for one in records], field.type) for field in schema}
    write_table(pa.table(columns, schema=schema), path)


def write_table(table: pa.Table, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=".", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            pq.write_table(table, file)
            file.flush()
            os.fsync(handle)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
