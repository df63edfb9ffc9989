"""The end of a sweep: its best students are read back, get their cards, and go to MLflow, one version a sparsity.

Why so: docs/decisions.md #best-means-feasible-and-read-back, #one-version-a-sparsity, #one-place-that-draws.
"""

import json
import logging
import tempfile
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from io import StringIO
from pathlib import Path

from analysis.figures import fig04
from analysis.page.contents import Contents
from analysis.page.figure_list import list_figures
from analysis.page.report import write_report
from analysis.reading.sweeps import read_sweep
from spd_ray.base.cache import write_sums
from spd_ray.base.files import link_or_copy, whole_folder
from spd_ray.base.progress import followed
from spd_ray.config.sweep import SweepSpec
from spd_ray.config.timeline import Timeline
from spd_ray.config.trial import TrialConfig
from spd_ray.data.tasks import load_task
from spd_ray.equations.patterns import SINGLE, Pattern
from spd_ray.records import layout
from spd_ray.records.parquet import write_parquet
from spd_ray.records.schema import COSTS, PREDICTION_SCHEMA, PredictionRecord, TrialRecord
from spd_ray.records.storage import SweepStorage
from spd_ray.study.ledger import Ledger
from spd_ray.tracking.mlflow_model import TEXTS, write_mlflow_files
from spd_ray.tracking.mlflow_store import ALIAS, alias_of, request_command
from spd_ray.tracking.model_card import REPRODUCE, DataFacts, StudentFacts, model_card, space_of
from spd_ray.tracking.sweep_page import NOTE, SweepPage
from spd_ray.tracking.tracker import Tracker
from spd_ray.tracking.trial_runs import best_name, fail_run, student_note, student_worth
from spd_ray.training.checkpoint import Verification, answer_dev, verify_checkpoint
from spd_ray.training.teacher import Teacher
from spd_ray.trials.on_worker import Worker, answers_of_teacher, read_back, run_on_worker

MOST_ASKED = 40  # characters of a text in the request that a run's page shows
RESCORE_TOLERANCE = 0.02  # of scores beyond 1, relative: fp16 and bf16 students are read back in fp32

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Student:
    """A student that was read back: a trial's best, or the best at a level of its ladder."""

    trial: TrialRecord
    level: float  # of sparsity, at which it has rivals
    asked: float  # the sparsity that was aimed at
    folder: Path
    train_score: float
    step: int
    verification: Verification

    @property
    def artifact_path(self) -> str:
        """Where it lies among its run's artifacts."""
        return self.folder.name.replace(self.trial.trial_id, "checkpoint")


def read_students_back(ledger: Ledger, teacher: Teacher, storage: SweepStorage, worker: Worker | None) -> list[Student]:
    """Read every retained student back, count its zeros and score it again, before any is called best.

    Returns the sparsest first, at one level the best first. A trial whose student is not what it said is marked failed,
    with the reason; of each level of a ladder the best one is looked at, then the next. What the others and the teacher
    answer on dev is kept. Where there is a `worker`, such a one computes all that.
    """
    found, trials = [], ledger.best_of_levels(ledger.spec.checkpoints.keep)
    if trials:
        write_predictions(storage, layout.TEACHER, _answers_of_teacher(ledger.spec, teacher, storage, worker))
    for trial in followed("students read back", trials):
        folder = storage.folder / str(trial.checkpoint)
        try:
            verification = _verify(ledger, teacher, storage, worker, trial, folder, None, trial.best_score or 0.0)
        except ValueError as error:
            ledger.update(trial.trial_id, status="failed", error=str(error))
            continue
        write_predictions(storage, trial.trial_id, verification.predictions)
        ledger.update(trial.trial_id, dev_score=verification.dev_score, **asdict(verification.cost))
        found.append(
            Student(
                trial=ledger.trials[trial.trial_id],
                level=ledger.level(trial.trial_id),
                asked=trial.target_sparsity,
                folder=folder,
                train_score=trial.train_score or 0.0,
                step=trial.best_step or 0,
                verification=verification,
            )
        )
    found += _read_ladders_back(ledger, teacher, storage, worker, [student.trial for student in found])
    return sorted(found, key=lambda one: (-one.level, -one.verification.score, one.trial.trial_id))


def _read_ladders_back(
    ledger: Ledger, teacher: Teacher, storage: SweepStorage, worker: Worker | None, trials: list[TrialRecord]
) -> list[Student]:
    """The best student at each level of the ladders of `trials`."""
    steps = [(trial, step) for trial in trials for step in json.loads(trial.ladder or "[]")]
    found: dict[float, Student] = {}
    for trial, step in sorted(steps, key=lambda pair: -pair[1]["score"]):
        level, folder = step["sparsity"], storage.folder / step["checkpoint"]
        if level in found:
            continue
        try:
            verification = _verify(ledger, teacher, storage, worker, trial, folder, level, step["score"])
        except ValueError as error:
            _log.warning("no student of %s at sparsity %g: %s", trial.trial_id, level, error)
            continue
        scores = {"train_score": step["train_score"], "step": step["step"]}
        found[level] = Student(
            trial=trial, level=level, asked=level, folder=folder, verification=verification, **scores
        )
    return list(found.values())


def _verify(
    ledger: Ledger,
    teacher: Teacher,
    storage: SweepStorage,
    worker: Worker | None,
    trial: TrialRecord,
    folder: Path,
    level: float | None,
    score: float,
) -> Verification:
    """Read a student back. Raises ValueError where it is not what its trial said; `level` is that of a ladder."""
    final, per_matrix, pattern = final_sparsity(ledger.config(trial.trial_id), teacher)
    asked, spec = final if level is None else level, ledger.spec
    storage.fetch(folder)
    if worker:
        about = str(folder.relative_to(storage.folder)), asked, per_matrix, pattern, spec.task, teacher.content
        found = run_on_worker(worker, read_back, storage.place, *about)
    else:
        found = verify_checkpoint(folder, asked, per_matrix, teacher, pattern)
    if abs(found.score - score) > RESCORE_TOLERANCE * max(1.0, abs(score)):
        raise ValueError(f"{folder}: scores {found.score:.4f} after reading, {score} before")
    return found


def _answers_of_teacher(
    spec: SweepSpec, teacher: Teacher, storage: SweepStorage, worker: Worker | None
) -> list[PredictionRecord]:
    if worker:
        return run_on_worker(worker, answers_of_teacher, storage.place, spec.task, teacher.content)
    return answer_dev(teacher.model, teacher)[1]


def write_predictions(storage: SweepStorage, trial_id: str, predictions: list[PredictionRecord]) -> None:
    """Keep what a student, or the teacher, answers on dev."""
    file = layout.predictions(storage.folder, trial_id)
    write_parquet(predictions, PREDICTION_SCHEMA, file)
    storage.send(file)


def final_sparsity(config: TrialConfig, teacher: Teacher) -> tuple[float, bool, Pattern]:
    """What the best student's zeros are counted against, whether in each matrix or in all together, and where."""
    timeline, pruned = Timeline.of(config.method, len(teacher.data.train)), config.method.pruning != "none"
    return timeline.final_sparsity, not config.method.prunes_globally, config.method.zeros if pruned else SINGLE


def publish(
    spec: SweepSpec, storage: SweepStorage, teacher: Teacher, students: list[Student], page: SweepPage
) -> dict[float, str]:
    """Write the cards, upload students and schedules, register the best of each level: level -> models:/NAME@ALIAS.

    `students` are in order, the best of a level first; the first of all gets the alias `best` too.
    """
    ledger, tracker = page.ledger, page.tracker
    name = model_name(spec)
    _fail_what_was_not_read_back(ledger, tracker)
    data, example = _facts_of_data(spec, teacher)
    firsts = {student.level: student for student in reversed(students)}
    models = {level: f"models:/{name}@{alias_of(level)}" for level in sorted(firsts, reverse=True)}
    for student in followed("students described and sent to MLflow", students):
        model = models[student.level] if student is firsts[student.level] else None
        _write_card(spec, ledger, storage, student, data, model)
        _upload(ledger, tracker, storage, student, example, model)
    for student in firsts.values():
        aliases = [alias_of(student.level), *([ALIAS] if student is students[0] else [])]
        run_id = str(student.trial.mlflow_run_id)
        tags = _version_tags(student, teacher)
        tracker.register(run_id, student.artifact_path, name, aliases, tags, _worth(student))
    tracker.upload(tracker.store.parent_run_id, layout.sweep_yaml(storage.folder))
    if spec.tracking.report:
        _upload_report(ledger, tracker, storage)
    page.finish(models)
    return models


def model_name(spec: SweepSpec) -> str:
    """Under which the best students are registered in MLflow."""
    return spec.tracking.registered_model or f"spd_ray-{spec.name}"


def _fail_what_was_not_read_back(ledger: Ledger, tracker: Tracker) -> None:
    for trial in ledger.ended:
        if trial.status == "failed" and trial.checkpoint is not None:
            fail_run(trial, tracker)


def _facts_of_data(spec: SweepSpec, teacher: Teacher) -> tuple[DataFacts, dict[str, str]]:
    """What the cards say of the data, and its first dev example as a request."""
    dev, task = load_task(spec.task).dev, teacher.data.task
    texts = [dev.text_a[0], *([dev.text_b[0]] if dev.text_b is not None else [])]
    example = dict(zip(TEXTS, texts, strict=False))
    scores = (teacher.score, teacher.train_score, teacher.majority_score)
    examples = len(teacher.data.train), len(teacher.data.dev)
    return DataFacts(task.metric, tuple(example), *examples, task.synthetic, *scores, task.baseline), example


def _write_card(
    spec: SweepSpec, ledger: Ledger, storage: SweepStorage, student: Student, data: DataFacts, model: str | None
) -> None:
    """Put the model card and the space of this one trial into the student's folder, whole or not at all."""
    trial, found = student.trial, student.verification
    config = ledger.config(trial.trial_id)
    zeros, prunable = (sum(getattr(one, name) for one in found.layers) for name in ("zeros", "numel"))
    facts = StudentFacts(
        selection_score=found.score,
        train_score=student.train_score,
        dev_score=found.dev_score,
        step=student.step,
        asked=student.asked,
        zeros=zeros,
        prunable=prunable,
        parameters=found.parameters,
        remaining=found.parameters - found.zero_parameters,
        file_bytes=(student.folder / "model.safetensors").stat().st_size,
        cost=found.cost,
    )
    with whole_folder(student.folder) as building:
        for file in student.folder.iterdir():
            link_or_copy(file, building / file.name)
        for made, text in (
            (REPRODUCE, space_of(spec, trial, config)),
            ("README.md", model_card(spec, trial, config, facts, data, model)),
        ):
            (building / made).unlink(missing_ok=True)
            (building / made).write_text(text)
        write_sums(building)
    storage.send(student.folder)


def _upload(
    ledger: Ledger,
    tracker: Tracker,
    storage: SweepStorage,
    student: Student,
    example: Mapping[str, str],
    model: str | None,
) -> None:
    """Upload a student and its run's schedules, and say there how it is taken; `model` is where it is registered."""
    trial, sweep = student.trial, storage.folder
    run_id = str(trial.mlflow_run_id)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "model"
        folder.mkdir()
        config = json.loads((student.folder / "spd_ray.json").read_text())
        write_mlflow_files(student.folder, folder, example, config["task"]["max_length"], trial.model)
        tracker.upload(run_id, folder, student.artifact_path)
        if student.folder == layout.checkpoint(sweep, trial.trial_id):
            storage.fetch(layout.steps(sweep, trial.trial_id))
            picture = Path(temporary) / "schedules.png"
            fig04.figure(fig04.compute([read_sweep(sweep)], trial.trial_id)).savefig(picture, dpi=150)
            tracker.upload(run_id, picture)
            found = {f"{trial.selection}_score_read_back": student.verification.score, **_costs(student)}
            tracker.log_points(run_id, [(name, value, student.step, None) for name, value in found.items()])
            source = model or f"runs:/{tracker.run_id_of(run_id)}/{student.artifact_path}"
            commands = {
                "Take it": tracker.store.download_command(source, trial.trial_id),
                "Have it answer requests": tracker.store.serve_command(source),
                "Ask it": request_command({name: text[:MOST_ASKED] for name, text in example.items()}),
            }
            tracker.set_tags(run_id, {NOTE: student_note(_worth(student), commands)})


def _worth(student: Student) -> str:
    """A sentence on what a student is worth."""
    found = student.verification
    return student_worth(student.trial, student.asked, found.score, asdict(found.cost))


def _costs(student: Student) -> dict[str, float]:
    """What is known of the student's size and latency, by MLflow's names of them: those of the record."""
    found = asdict(student.verification.cost)
    return {name: found[name] for name in COSTS if found[name] is not None}


def _upload_report(ledger: Ledger, tracker: Tracker, storage: SweepStorage) -> None:
    """Draw the report, as `python -m analysis` does, and upload its page; a failure is told and ends nothing."""
    ledger.fold()  # the analysis reads the table
    if storage.is_remote:
        storage.send_files()
    with tempfile.TemporaryDirectory() as temporary:
        out = Path(temporary)
        try:
            with redirect_stdout(StringIO()):
                contents = Contents(f"Sweep {ledger.spec.name}", out, [read_sweep(storage.place)], None, [])
                write_report(contents, list_figures(None))
        except Exception as error:  # whatever a figure raises: the students are what the sweep was for
            _log.warning("no report in MLflow: %s: %s", type(error).__name__, error)
            return
        tracker.upload(tracker.store.parent_run_id, out / "index.html", "report")


def _version_tags(student: Student, teacher: Teacher) -> dict[str, object]:
    """What the registered version says of itself, by the names that the trial's run has."""
    trial, found = student.trial, student.verification
    return {
        "trial_id": trial.trial_id,
        best_name(trial): found.score,
        "train_score_at_best": student.train_score,
        "target_sparsity": student.asked,
        "sparsity": found.sparsity,
        **_costs(student),
        f"teacher_{trial.selection}_score": teacher.score,
    }
