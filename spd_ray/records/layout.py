"""Every path of a sweep's folder, and of what lies beside it. The names are documented: people and programs read them.

<storage>/
  mlflow.db, mlartifacts/             MLflow's own store, shared by the sweeps here
  .<sweep>.lock, .mlflow.lock         held by a driver
  <sweep>/
    sweep.yaml                        the specification, the command, versions, commit, machine
    space.yaml                        the space, where a notebook gave a mapping in the place of a file
    study.journal                     the Optuna study
    trials.parquet, trials.journal    a row a trial, and what has changed since it was written
    rungs.jsonl                       early stopping's scores
    mlflow_sweep_id                   the tag by which the parent run is found
    steps/trial=<id>/<first>-<last>.parquet
    state/<id>/step-<steps>/          what a trial continues from, until it has ended; in it standing.json
    state/teacher-<key>/step-<steps>/ the same of one learning rate of the teacher, until it is made
    checkpoints/<id>[-sparsity-<s>]/  the best students; of a ladder one a level
    teacher/<hash>/                   the dense teacher of all trials, by the hash of its files
    predictions/<id>.parquet          what each of them answers on dev, and the dense teacher (teacher.parquet)
    ray/                              Tune's own files: nothing is read from them
    .lease                            in an object store: the driver that has the sweep
    report/                           figures, tables and page of the analysis

Why so: docs/decisions.md #every-path-in-one-file.
"""

import itertools
from pathlib import Path

SWEEP_YAML = "sweep.yaml"
TRIALS_TABLE, TRIALS_JOURNAL = "trials.parquet", "trials.journal"
RAY = "ray"
MLFLOW_ARTIFACTS = "mlartifacts"
_LEVEL = "-sparsity-"
TEACHER = "teacher"  # the dense one's folder, and what stands in the place of a trial's id


def sweep_yaml(sweep: Path) -> Path:
    return sweep / SWEEP_YAML


def space_yaml(sweep: Path) -> Path:
    return sweep / "space.yaml"


def study_journal(sweep: Path) -> Path:
    return sweep / "study.journal"


def trials_table(sweep: Path) -> Path:
    return sweep / TRIALS_TABLE


def trials_journal(sweep: Path) -> Path:
    return sweep / TRIALS_JOURNAL


def rungs_journal(sweep: Path) -> Path:
    return sweep / "rungs.jsonl"


def mlflow_sweep_id(sweep: Path) -> Path:
    return sweep / "mlflow_sweep_id"


def mlflow_uri(storage: Path) -> str:
    """MLflow's store where no other is named, shared by the sweeps of a storage."""
    return f"sqlite:///{mlflow_database(storage)}"


def mlflow_database(storage: Path) -> Path:
    return storage / "mlflow.db"


def mlflow_artifacts(storage: Path) -> Path:
    return storage / MLFLOW_ARTIFACTS


def mlflow_lock(storage: Path) -> Path:
    """Held while a driver opens MLflow's store: two cannot make its tables at once."""
    return storage / ".mlflow.lock"


def sweep_lock(sweep: Path) -> Path:
    """Held by the driver of the sweep."""
    return sweep.parent / f".{sweep.name}.lock"


def place_aside(sweep: Path) -> Path:
    """The first free name for an earlier sweep that is moved aside: <sweep>.1, <sweep>.2, ..."""
    return next(path for n in itertools.count(1) if not (path := sweep.with_name(f"{sweep.name}.{n}")).exists())


def steps(sweep: Path, trial_id: str) -> Path:
    """The folder of a trial's step records."""
    return sweep / "steps" / f"trial={trial_id}"


def step_part(sweep: Path, trial_id: str, first_step: int, last_step: int) -> Path:
    """The file of the steps [first_step, last_step) of a trial; the same range always has the same name."""
    return steps(sweep, trial_id) / f"{first_step:08d}-{last_step:08d}.parquet"


def step_parts(sweep: Path, trial_id: str) -> dict[Path, tuple[int, int]]:
    """The files of a trial's step records, each with its range of steps."""
    parts = sorted(steps(sweep, trial_id).glob("[0-9]*-[0-9]*.parquet"))
    return {part: (int(first), int(last)) for part in parts for first, last in [part.stem.split("-")]}


def states(sweep: Path) -> Path:
    return sweep / "state"


def trial_states(sweep: Path, trial_id: str) -> Path:
    """The folder of a trial's states; the driver removes it when the trial has ended."""
    return states(sweep) / trial_id


def state(sweep: Path, trial_id: str, step: int) -> Path:
    """The folder of a trial's state after `step` applied steps."""
    return trial_states(sweep, trial_id) / f"step-{step:08d}"


def standing_json(state: Path) -> Path:
    """Where the trial stood when it saved that state."""
    return state / "standing.json"


def states_by_age(sweep: Path, trial_id: str) -> list[Path]:
    """A trial's states, the oldest first."""
    return sorted(trial_states(sweep, trial_id).glob("step-*"))


def checkpoints(sweep: Path) -> Path:
    return sweep / "checkpoints"


def checkpoint(sweep: Path, trial_id: str, level: float | None = None) -> Path:
    """The folder of a trial's best feasible student, or of the best one at a level of its ladder."""
    return checkpoints(sweep) / (trial_id if level is None else f"{trial_id}{_LEVEL}{level:g}")


def teachers(sweep: Path) -> Path:
    return sweep / TEACHER


def teacher(sweep: Path, files_key: str) -> Path:
    """The folder of the dense teacher whose files have that hash: all trials of the sweep have this one."""
    return teachers(sweep) / files_key


def predictions(sweep: Path, trial_id: str) -> Path:
    """What a trial's retained student, or the dense `TEACHER`, answers on the dev set."""
    return sweep / "predictions" / f"{trial_id}.parquet"


def is_student_of(folder: Path, trial_id: str) -> bool:
    """Whether `folder`, one of `checkpoints`, holds a student of that trial."""
    return folder.name == trial_id or folder.name.startswith(f"{trial_id}{_LEVEL}")
