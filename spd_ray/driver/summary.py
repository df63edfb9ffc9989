"""The summary at the end of a sweep: what came out best, and what to do next."""

from collections.abc import Callable, Mapping
from statistics import mean, stdev

from rich.console import Console
from rich.table import Table

from analysis.numbers import leaderboard
from analysis.reading.sweeps import read_sweep
from spd_ray.base.errors import counted
from spd_ray.base.installation import own_command
from spd_ray.config.sweep import SweepSpec
from spd_ray.config.timeline import Timeline
from spd_ray.data.batches import EncodedTask
from spd_ray.driver.display import format_duration
from spd_ray.driver.students import Student, model_name
from spd_ray.records.schema import TrialRecord
from spd_ray.records.storage import SweepStorage
from spd_ray.study.ledger import Ledger
from spd_ray.tracking.mlflow_store import ALIAS
from spd_ray.tracking.tracker import Tracker
from spd_ray.training.checkpoint import Verification
from spd_ray.training.teacher import Teacher


def teacher_line(teacher: Teacher) -> str:
    """The dense teacher's scores in one line."""
    data, task = teacher.data, teacher.data.task
    others = "".join(f", {metric} {value:.4f}" for metric, value in teacher.other_scores.items())
    origin = "yours, not trained" if teacher.learning_rate is None else f"learning rate {teacher.learning_rate:g}"
    return (
        f"teacher: {data.selection} {task.metric} {teacher.score:.4f}{others}, train {teacher.train_score:.4f}, "
        f"{task.baseline} {teacher.majority_score:.4f}, {origin} ({teacher.folder})"
    )


def labels_line(data: EncodedTask) -> str:
    """How the labels are distributed in what is trained on and in what is chosen on."""
    train, chooser = (data.task.describe_labels(split.labels.numpy()) for split in (data.train, data.chooser))
    return f"labels: train {train}; {data.selection} {chooser}"


def print_summary(
    spec: SweepSpec,
    ledger: Ledger,
    teacher: Teacher,
    storage: SweepStorage,
    students: list[Student],
    models: dict[float, str],
    tracker: Tracker,
    console: Console,
    wall_seconds: float,
) -> None:
    """How the trials ended, the best ones, the scores side by side, and what to do next, as commands to be pasted.

    `models` are what `publish` returned, `wall_seconds` those since the sweep was begun, or begun again.
    """
    console.rule(f"sweep {spec.name}")

    def print_plain(text: str) -> None:
        console.print(text, soft_wrap=True, markup=False, highlight=False)

    print_plain(_ends_line(ledger))
    device = sum(trial.device_seconds or 0.0 for trial in ledger.ended)
    print_plain(
        f"wall time {format_duration(wall_seconds)} in this run, "
        f"device time {format_duration(device)} inside training steps"
    )
    for trial in ledger.ended:
        if trial.status == "failed":
            print_plain(f"failed: {trial.trial_id}: {trial.error}")
    if not students:
        print_plain("no feasible student: no trial was scored at its target sparsity and read back as it was")
        return
    best = students[0].trial
    _print_best(spec, ledger, teacher, best, print_plain)
    console.print(_scores_table(best, teacher, students[0].verification))
    if best.packed_bytes is not None:
        print_plain(_cost_line(best, students[0].verification))
    print_plain(labels_line(teacher.data))
    ledger.fold()  # the leaderboard is read from the table
    for line in _sparsity_lines(storage):
        print_plain(line)
    print_plain(f"best sparse checkpoint: {storage.shown(storage.folder / str(best.checkpoint))}")
    for label, command in _commands(spec, storage, best, models, tracker).items():
        print_plain(f"{label + ':':<24}{command}")


def _ends_line(ledger: Ledger) -> str:
    """How many trials there were, and how they ended."""
    counts = [(sum(t.status == status for t in ledger.ended), status) for status in ("finished", "stopped", "failed")]
    return f"{counted(len(ledger.ended), 'trial')}: {', '.join(f'{count} {status}' for count, status in counts)}"


def _print_best(
    spec: SweepSpec, ledger: Ledger, teacher: Teacher, best: TrialRecord, print_plain: Callable[[str], None]
) -> None:
    config = ledger.config(best.trial_id)
    timeline = Timeline.of(config.method, len(teacher.data.train))
    scores = [t.best_score for t in ledger.seeds_of(best.configuration) if t.best_score is not None]
    spread = f" +- {stdev(scores):.4f}" if len(scores) > 1 else ""
    level = f" at sparsity {best.target_sparsity:g}" if len(ledger.levels) > 1 else ""
    print_plain(
        f"best feasible trial{level}: {best.trial_id} (configuration {best.configuration}, "
        f"mean over {counted(len(scores), 'seed')} {mean(scores):.4f}{spread})"
    )
    values = config.method.model_dump()
    shown = dict.fromkeys(("p0", "stage1_lr", "stage23_lr", "pruning_end", "target_sparsity", *spec.search))
    print_plain(
        "  " + ", ".join(f"{name} {values[name]:.4g}" for name in shown if isinstance(values.get(name), int | float))
    )
    stages = f"t1 {timeline.t1}, t2 {timeline.t2}, t3 {timeline.t3} steps"
    print_plain(f"  {stages}; pruning ends at {timeline.pruning_end_step}")


def _cost_line(best: TrialRecord, verification: Verification) -> str:
    """Size and latency of the packed student beside those of the dense one."""
    text = f"packed: {(best.packed_bytes or 0) / 1e6:.2f} MB of {4 * verification.parameters / 1e6:.2f}"
    if best.latency_ms is None or best.dense_latency_ms is None:
        return text
    faster = best.dense_latency_ms / best.latency_ms
    return f"{text}; {best.latency_ms:.2f} ms, dense {best.dense_latency_ms:.2f} ({faster:.1f} times; {best.timed_on})"


def _sparsity_lines(storage: SweepStorage) -> list[str]:
    """The best student at each sparsity, where there are several."""
    boards = leaderboard.compute(read_sweep(storage.folder)).boards
    lines = []
    for board in boards if len(boards) > 1 else ():
        student, row = board.best, board.rows[0]
        spread = "" if row.deviation is None else f" +- {row.deviation:.4f}"
        kept = "not kept" if student.checkpoint is None else storage.shown(storage.folder / student.checkpoint)
        size = "" if student.packed_bytes is None else f"packed {student.packed_bytes / 1e6:.2f} MB, "
        speed = "" if student.latency_ms is None else f"{student.latency_ms:.2f} ms, "
        lines.append(
            f"best at sparsity {board.sparsity:g}: {student.trial.trial_id} with {student.score:.4f}, "
            f"mean over {counted(len(row.students), 'seed')} {row.mean:.4f}{spread}, {size}{speed}{kept}"
        )
    return lines


def _commands(
    spec: SweepSpec, storage: SweepStorage, best: TrialRecord, models: dict[float, str], tracker: Tracker
) -> dict[str, str]:
    """What to do next, by what it is for."""
    place = storage.place
    out = ["--out", f"report-{spec.name}"] if storage.is_remote else []  # a report is not written to an object store
    commands = {
        "leaderboard": own_command("spd_ray.show", place),
        "figures and tables": own_command("analysis", "--sweep", place, *out),
    }
    if not storage.is_remote:
        checkpoint = storage.shown(storage.folder / str(best.checkpoint))
        commands["small, fast copy"] = own_command("spd_ray.deploy", checkpoint, "--out", f"{best.trial_id}-packed")
    model, store = f"models:/{model_name(spec)}@{ALIAS}", tracker.store
    commands["in MLflow"] = ", ".join([model, *(models.values() if len(models) > 1 else ())])
    commands["take it from there"] = store.download_command(model, f"{best.trial_id}-taken")
    commands["answer requests"] = store.serve_command(model)
    started = store.ui_command()
    if started is not None:
        commands["browse the runs"] = started
    return {**commands, "then open" if started else "browse the runs": store.page_address()}


def _scores_table(best: TrialRecord, teacher: Teacher, verification: Verification) -> Table:
    """Baseline, dense teacher and sparse student on what was chosen on and on train; with a holdout also on dev."""
    data, others = teacher.data, teacher.data.task.also
    train, chooser = data.train.labels.numpy(), data.chooser.labels.numpy()
    baselines = {metric: data.task.baseline_score(train, chooser, metric) for metric in others}

    def of_others(scores: Mapping[str, float]) -> list[str]:
        return [f"{scores[metric]:.4f}" for metric in others]

    table = Table("model", f"{best.selection} {best.metric}", *others, "train", "encoder zeros")
    table.add_row(data.task.baseline, f"{teacher.majority_score:.4f}", *of_others(baselines), "", "")
    dense = [f"{teacher.score:.4f}", *of_others(teacher.other_scores), f"{teacher.train_score:.4f}"]
    table.add_row("dense teacher", *dense, "0.0000")
    reloaded = [f"{verification.score:.4f} (read back from disk)", *of_others(verification.other_scores)]
    table.add_row("sparse student", *reloaded, f"{best.train_score:.4f}", f"{verification.sparsity:.4f}")
    if best.selection == "holdout":
        table.add_row("sparse student, dev", f"{verification.dev_score:.4f} (its only use)")
    return table
