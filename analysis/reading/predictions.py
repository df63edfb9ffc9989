"""What the retained students and the dense teacher of a sweep answer on the dev set."""

from typing import NamedTuple

import numpy as np
from pyarrow import fs

from analysis.reading.parquet import read_file
from analysis.reading.sweeps import Sweep

TEACHER = "teacher"


class Predictions(NamedTuple):
    """One model's answers to the N examples of dev, in their order: classes, or values of a regression task."""

    label: np.ndarray  # (N,)
    answer: np.ndarray  # (N,)


def read_predictions(sweep: Sweep) -> dict[str, Predictions]:
    """Trial id, or "teacher" -> its answers; of the students those alone that are retained now. {} where none are kept.

    Raises AnalysisError on a broken file or one of another schema version.
    """
    retained = {trial.trial_id for trial in sweep.trials if trial.eligible and trial.checkpoint} | {TEACHER}
    found = {}
    for file in (sweep.folder / "predictions").entries(fs.FileType.File):
        name = file.name.removesuffix(".parquet")
        if name in retained:
            table = read_file(file, ["example", "label", "prediction"]).sort_by("example")
            found[name] = Predictions(table["label"].to_numpy(), table["prediction"].to_numpy())
    return found
