"""A trial's step records on disk: a part an evaluation while it runs, one file when it has ended."""

import itertools
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from spd_ray.records.parquet import write_table


def steps_folder(sweep_folder: Path, trial_id: str) -> Path:
    """Where a trial's step records are."""
    return sweep_folder / "steps" / f"trial={trial_id}"


def step_part(sweep_folder: Path, trial_id: str, first_step: int, last_step: int) -> Path:
    """Where the steps [first_step, last_step) of a trial go; the same range always has the same name."""
    return steps_folder(sweep_folder, trial_id) / f"{first_step:08d}-{last_step:08d}.parquet"


def compact_steps(sweep_folder: Path, trial_id: str) -> None:
    """Put the parts of a trial that writes no more into one. Killed in between, it can be done again.

    The whole appears by one rename, and only then the parts go. Parts that overlap or leave a gap stay as they are.
    """
    parts = steps_folder(sweep_folder, trial_id).glob("[0-9]*-[0-9]*.parquet")
    spans = {part: tuple(map(int, part.stem.split("-"))) for part in sorted(parts)}
    kept: list[Path] = []
    for part in sorted(spans, key=lambda one: (spans[one][0], -spans[one][1])):
        if not kept or spans[part][1] > spans[kept[-1]][1]:  # else it lies within the one before
            kept.append(part)
    if not kept or any(spans[one][1] != spans[after][0] for one, after in itertools.pairwise(kept)):
        return
    whole = step_part(sweep_folder, trial_id, spans[kept[0]][0], spans[kept[-1]][1])
    if len(kept) > 1:
        write_table(pa.concat_tables([pq.ParquetFile(part).read() for part in kept]), whole)
    for part in spans.keys() - {whole}:
        part.unlink()
