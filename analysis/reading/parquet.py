"""Reading of single Parquet files, with a check of the schema's version and one-line errors."""

from collections.abc import Collection

import pyarrow as pa
import pyarrow.dataset as ds

from analysis.errors import AnalysisError
from analysis.reading.description import SCHEMA_VERSIONS
from analysis.reading.folders import Folder, first_line

_VERSION_KEY = b"spd_ray.schema_version"


def broken_file(shown: str, error: BaseException) -> AnalysisError:
    """The error of a file that is not Parquet, is cut short, or lacks a column."""
    return AnalysisError(f"{shown}: cannot be read as a sweep's Parquet file: {first_line(error)}")


def check_version(schema: pa.Schema, shown: str) -> None:
    """Raise AnalysisError where the file `shown` has a schema version that is not read here."""
    version = (schema.metadata or {}).get(_VERSION_KEY, b"none").decode()
    if version not in SCHEMA_VERSIONS:
        expected = " or ".join(SCHEMA_VERSIONS)
        raise AnalysisError(f"{shown}: schema version {version} (spd_ray.schema_version), not {expected}")


def read_file(
    file: Folder, columns: list[str], condition: ds.Expression | None = None, optional: Collection[str] = ()
) -> pa.Table:
    """The requested columns and rows, both selected by Parquet itself, after a check of the schema's version.

    The `optional` ones of the columns are left out where the file has none of that name.
    Raises FileNotFoundError where the file is gone, AnalysisError where it is broken or of another version.
    """
    try:
        dataset = ds.dataset(file.path, filesystem=file.filesystem, format="parquet")
        check_version(dataset.schema, file.shown)
        present = [name for name in columns if name not in optional or name in dataset.schema.names]
        return dataset.to_table(columns=present, filter=condition)
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError) as error:
        raise broken_file(file.shown, error) from error
