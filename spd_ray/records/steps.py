"""A trial's step records on disk: a part an evaluation while it runs, one file when it has ended."""

import itertools
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from spd_ray.records import layout
from spd_ray.records.parquet import write_table


def read_scores(sweep_folder: Path, trial_id: str, split: str, metric: str) -> dict[int, float]:
    """Step -> score of each evaluation of a trial on `split`, as far as its parts are in the folder."""
    found: dict[int, float] = {}
    for part in layout.step_parts(sweep_folder, trial_id):
        rows = pq.ParquetFile(part).read(["step", "split", "metric", "value"])
        chosen = rows.filter((pc.field("split") == split) & (pc.field("metric") == metric))
        found |= zip(chosen["step"].to_pylist(), chosen["value"].to_pylist(), strict=True)
    return dict(sorted(found.items()))


def compact_steps(sweep_folder: Path, trial_id: str) -> None:
    """Put the parts of a trial that writes no more into one. Killed in between, it can be done again.

    The whole appears by one rename, and only then the parts go. Parts that overlap or leave a gap stay as they are.
    """
    spans = layout.step_parts(sweep_folder, trial_id)
    kept: list[Path] = []
    for part in sorted(spans, key=lambda one: (spans[one][0], -spans[one][1])):
        if not kept or spans[part][1] > spans[kept[-1]][1]:  # else it lies within the one before
            kept.append(part)
    if not kept or any(spans[one][1] != spans[after][0] for one, after in itertools.pairwise(kept)):
        return
    whole = layout.step_part(sweep_folder, trial_id, spans[kept[0]][0], spans[kept[-1]][1])
    if len(kept) > 1:
        tables = [pq.ParquetFile(part).read() for part in kept]  # a package may have brought a term in between
        write_table(pa.concat_tables(tables, promote_options="default"), whole)
    for part in spans.keys() - {whole}:
        part.unlink()
