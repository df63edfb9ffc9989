"""What a sweep ends with, for whoever started it. Imports nothing, so that `import spd_ray` needs nothing installed."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

    from spd_ray.records.schema import TrialRecord


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class SweepResult:
    """A sweep that has ended, or that Ctrl-C has stopped."""

    folder: Path | str
    """Where the sweep lies: the URI of an object store stays text."""
    trials: "pa.Table"
    """One row per trial, with the columns of `trials.parquet` that docs/records.md describes."""
    best: "TrialRecord | None"
    """The best feasible trial, its student read back; None without one, and for a sweep that was stopped."""
    checkpoint: Path | str | None
    """The best trial's sparse student: a plain transformers directory."""
    interrupted: bool
    """Whether Ctrl-C stopped it; `run_sweep(..., resume=True)` goes on."""

    def __repr__(self) -> str:
        best = f"{self.best.trial_id} with {self.best.metric} {self.best.best_score:.4f}" if self.best else "none"
        state = ", interrupted" if self.interrupted else ""
        return f"SweepResult({str(self.folder)!r}, {self.trials.num_rows} trials, best: {best}{state})"
