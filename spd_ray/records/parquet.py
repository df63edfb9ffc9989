"""Records to Parquet files that are whole whenever they are visible."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from spd_ray.base.files import whole_file
from spd_ray.records.schema import PredictionRecord, StepRecord, TrialRecord

Records = Sequence[StepRecord] | Sequence[TrialRecord] | Sequence[PredictionRecord]


def write_parquet(records: Records, schema: pa.Schema, path: Path) -> None:
    """Write `records` to `path`: readers see all or nothing, and what they see outlives a power cut."""
    columns = {field.name: pa.array([getattr(one, field.name) for one in records], field.type) for field in schema}
    write_table(pa.table(columns, schema=schema), path)


def write_table(table: pa.Table, path: Path) -> None:
    """Write a table to `path`: readers see all or nothing, and what they see outlives a power cut."""
    with whole_file(path, outlives_power_cut=True) as file:
        pq.write_table(table, file)
