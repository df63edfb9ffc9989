"""The teacher: a pretrained encoder fine-tuned on the task (Section 4.2), built once and cached by content.

Shapes: N examples, B rows in a batch, C outputs.

Why so: docs/decisions.md #teachers-key.
"""

import json
import platform
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification

from spd_ray.base import cache
from spd_ray.base.errors import UserError
from spd_ray.base.progress import Advance, progress_bar, quiet_transformers
from spd_ray.config.trial import ModelConfig, TaskConfig, TeacherConfig
from spd_ray.data.batches import EncodedSplit, EncodedTask, collate, encode_task, eval_batches
from spd_ray.data.examples import Task
from spd_ray.data.metrics import metrics_key, score
from spd_ray.data.tasks import load_task
from spd_ray.equations.losses import task_loss
from spd_ray.model.classifier import find_model, load_tokenizer, model_files, new_classifier, trained_classifier
from spd_ray.records.provenance import TEACHER_FILES
from spd_ray.training.fine_tuning import StatesOf, fine_tune, tuning_steps
from spd_ray.training.miniature_encoder import MINIATURES, pretrained_miniature

VERSION = 1  # count it up when fine-tuning changes: the cache cannot see code
EVAL_BATCH_SIZE = 128
REPORT = "spd_ray_teacher.json"
SCORING = "scores it"  # beside the bar


class Scores(NamedTuple):
    """The task's metric, the mean cross-entropy (regression: mean squared error), and the task's other metrics."""

    score: float
    loss: float
    other_scores: dict[str, float]


@dataclass(frozen=True)
class Report:
    """What the teacher scores, the best of the learning rates or the user's own, as `spd_ray_teacher.json` holds it."""

    score: float
    train_score: float
    majority_score: float
    learning_rate: float | None  # None: nothing was fine-tuned
    tried: list[tuple[float, float]]  # (learning rate, score)
    other_scores: dict[str, float]  # the other metrics, where `score` is


@dataclass(frozen=True)
class Teacher:
    """A fine-tuned model with its data. `model` is fp32, frozen, in eval mode, with eager attention, on the CPU."""

    model: Any
    tokenizer: Any
    data: EncodedTask
    score: float
    train_score: float
    majority_score: float
    learning_rate: float | None  # None: it is the user's own
    other_scores: dict[str, float]  # the task's other metrics, where `score` is
    folder: Path
    content: dict[str, str]  # hashes of data, model, all that it was made from ("teacher"), and its own files

    @property
    def files_key(self) -> str:
        """The hash of its files, by which all machines of a sweep have the same one."""
        return self.content[TEACHER_FILES]


@dataclass(frozen=True)
class Origin:
    """What a teacher is made from."""

    folder: Path  # of the pretrained encoder, or of the user's own teacher
    tokenizer: Any
    data: EncodedTask
    content: dict[str, str]  # as the teacher's, without TEACHER_FILES


def load_teacher(task: TaskConfig, model: ModelConfig, teacher: TeacherConfig) -> Teacher:
    """Take the teacher from the cache, or fine-tune `model` on `task` here, or take the one that `teacher` names.

    Raises UserError as `read_origin` and `open_teacher` do.
    """
    origin = read_origin(task, model, teacher)
    return open_teacher(origin, build_teacher(origin, teacher), teacher.gate)


def read_origin(task: TaskConfig, model: ModelConfig, teacher: TeacherConfig) -> Origin:
    """Raises UserError where the task or the model is not available."""
    texts = load_task(task)
    source = resolve_source(model, teacher)
    tokenizer = load_tokenizer(source, task.max_length, teacher.source_key)
    data = encode_task(texts, tokenizer, task)
    model_key = cache.files_key(model_files(source))
    recipe = {
        "version": VERSION,
        "task": data.fingerprint,
        "metrics": metrics_key((data.task.metric, *data.task.also)),
        "max_length": task.max_length,
        "model": model_key,
        "teacher": "given" if teacher.is_given else teacher.model_dump(exclude={"gate", "path", "name"}),
    }
    content = {"data": data.fingerprint, "model": model_key, "teacher": cache.content_key(recipe)}
    return Origin(source, tokenizer, data, content)


def make_teacher(
    origin: Origin,
    config: TeacherConfig,
    folder: Path,
    advance: Advance | None = None,
    states_of: StatesOf | None = None,
) -> Report:
    """Fine-tune the teacher in this process, or score the user's own, and write it into `folder`.

    `advance` is called after each of `count_batches`; without it there is a progress bar. Each learning rate goes on
    from its states.
    """
    told = f"teacher of {origin.data.task.name}", count_batches(config, origin.data)
    with nullcontext(advance) if advance else progress_bar(*told) as tell:
        if config.is_given:
            best, report = score_given(origin.folder, origin.data, tell)
        else:
            best, report = best_of_learning_rates(origin.folder, origin.data, config, tell, states_of)
    with quiet_transformers():
        best.save_pretrained(folder)
    return report


def count_batches(config: TeacherConfig, data: EncodedTask) -> int:
    """What making the teacher takes: each step of fine-tuning, and each batch that is scored."""
    chooser, train = (len(eval_batches(split.lengths, EVAL_BATCH_SIZE)) for split in (data.chooser, data.train))
    tried = 1 if config.is_given else len(config.learning_rates)
    return tuning_steps(config, data) + tried * chooser + train


def build_teacher(
    origin: Origin, config: TeacherConfig, make: Callable[[Origin, TeacherConfig, Path], Report] = make_teacher
) -> Path:
    """The teacher's folder in the cache; where it is not there it is made."""

    def build(folder: Path) -> None:
        report = make(origin, config, folder)
        with quiet_transformers():
            origin.tokenizer.save_pretrained(folder)
        (folder / REPORT).write_text(json.dumps(asdict(report), indent=2) + "\n")

    return cache.build_once("teachers", origin.content["teacher"], build)


def open_teacher(origin: Origin, folder: Path, gate: bool) -> Teacher:
    """The teacher in `folder`. Raises UserError where it is to pass the gate and is no better than the majority."""
    found = _read(folder, origin.tokenizer, origin.data, {**origin.content, TEACHER_FILES: teacher_key(folder)})
    if gate:
        check_gate(found)
    return found


def read_teacher(folder: Path, task: TaskConfig, content: Mapping[str, str]) -> Teacher:
    """The teacher in `folder`, which was made somewhere, with its task's data as they are here.

    Raises UserError where these are not the data that it was trained on.
    """
    tokenizer = load_tokenizer(folder, task.max_length)
    data = encode_task(load_task(task), tokenizer, task)
    if data.fingerprint != content["data"]:
        raise UserError(
            f"{platform.node()}: the examples of {task.name} are others here than those that the teacher was trained "
            f"on ({data.fingerprint}, not {content['data']}): every machine needs the same files"
        )
    return _read(folder, tokenizer, data, dict(content))


def _read(folder: Path, tokenizer: Any, data: EncodedTask, content: dict[str, str]) -> Teacher:
    report = Report(**json.loads((folder / REPORT).read_text()))
    with quiet_transformers():
        fine_tuned = AutoModelForSequenceClassification.from_pretrained(folder, attn_implementation="eager")
    fine_tuned.eval().requires_grad_(False)
    scores = (report.score, report.train_score, report.majority_score, report.learning_rate, report.other_scores)
    return Teacher(fine_tuned, tokenizer, data, *scores, folder, content)


def teacher_key(folder: Path) -> str:
    """The hash of all files of a teacher."""
    return cache.files_key(file for file in folder.iterdir() if file.is_file())


def check_gate(teacher: Teacher) -> None:
    """Refuse a teacher that is not strictly better than the majority class."""
    if teacher.score > teacher.majority_score:
        return
    data, tried = teacher.data, json.loads((teacher.folder / REPORT).read_text())["tried"]
    rates = ", ".join(f"{learning_rate:g}" for learning_rate, _ in tried)
    mend = f"learning rates tried: {rates}); change teacher.learning_rates or teacher.epochs"
    if teacher.learning_rate is None:
        mend = "it is yours, not trained here); give a teacher.path that was fine-tuned on this task"
    raise UserError(
        f"the teacher of {data.task.name} is no better than the {data.task.baseline}: "
        f"{data.selection} {data.task.metric} {teacher.score:.4f} "
        f"against {teacher.majority_score:.4f} ({mend}, or go on with it by `--set teacher.gate=false`"
    )


def resolve_model(config: ModelConfig) -> Path:
    """The folder of the pretrained encoder: `path`, the miniature, or a snapshot from the hub."""
    if config.path is None and config.name in MINIATURES:
        return pretrained_miniature(config.name, config.seed)
    return find_model("model", config.path, config.name)


def resolve_source(model: ModelConfig, teacher: TeacherConfig) -> Path:
    """The folder that the teacher comes from: the user's own fine-tuned one, else the pretrained encoder."""
    return find_model("teacher", teacher.path, teacher.name or "") if teacher.is_given else resolve_model(model)


def pretrained_classifier(config: ModelConfig, task: Task, dropout: float, seed: int) -> Any:
    """The pretrained encoder of `config` under a new classifier drawn from `seed`, with eager attention."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        model = new_classifier(resolve_model(config), task, dropout)
    model.set_attn_implementation("eager")
    return model


def best_of_learning_rates(
    folder: Path, data: EncodedTask, config: TeacherConfig, advance: Advance, states_of: StatesOf | None = None
) -> tuple[Any, Report]:
    """Fine-tune under each learning rate, each from the same seed, and keep the best (the first of equals)."""
    tried: list[tuple[float, float]] = []
    for learning_rate in config.learning_rates:
        states = states_of(learning_rate) if states_of else None
        model = fine_tune(folder, data, config, learning_rate, advance, states)
        scores = evaluate(model, data.chooser, data.task, partial(advance, note=SCORING))
        if not tried or scores.score > max(known for _, known in tried):
            best, others = model, scores.other_scores
        tried.append((learning_rate, scores.score))
    learning_rate, dev_score = max(tried, key=lambda pair: pair[1])
    train_score = evaluate(best, data.train, data.task, partial(advance, note=SCORING)).score
    majority = data.task.baseline_score(data.train.labels.numpy(), data.chooser.labels.numpy())
    return best, Report(dev_score, train_score, majority, learning_rate, tried, others)


def score_given(folder: Path, data: EncodedTask, advance: Advance) -> tuple[Any, Report]:
    """The user's own fine-tuned classifier and what it scores. Raises UserError as `trained_classifier` does."""
    model = trained_classifier(folder, data.task).eval()
    advance = partial(advance, note=SCORING)
    scores = evaluate(model, data.chooser, data.task, advance)
    train_score = evaluate(model, data.train, data.task, advance).score
    majority = data.task.baseline_score(data.train.labels.numpy(), data.chooser.labels.numpy())
    return model, Report(scores.score, train_score, majority, None, [], scores.other_scores)


def predict(
    model: nn.Module,
    split: EncodedSplit,
    batch_size: int,
    device: torch.device | str,
    advance: Callable[[], None] = lambda: None,
) -> np.ndarray:
    """Logits (N, C) in float32, in the split's order. The model evaluates (no dropout) and is left as it was.

    `advance` is called after each batch.
    """
    modes = {module: module.training for module in model.modules()}
    model.eval()
    logits: list[Tensor] = []
    batches = eval_batches(split.lengths, batch_size)
    with torch.no_grad():
        for indices in batches:
            batch = collate(split, indices, device)
            del batch["labels"]
            logits.append(model(**batch).logits.float())
            advance()
    for module, training in modes.items():
        module.training = training
    order = np.argsort(np.concatenate(batches))
    return torch.cat(logits).cpu().numpy()[order]


def evaluate(model: nn.Module, split: EncodedSplit, task: Task, advance: Callable[[], None] = lambda: None) -> Scores:
    """Score `model` on `split`, on the model's device; `advance` as of `predict`."""
    return scores_of(predict(model, split, EVAL_BATCH_SIZE, next(model.parameters()).device, advance), split, task)


def scores_of(logits: np.ndarray, split: EncodedSplit, task: Task) -> Scores:
    """The scores of logits (N, C) for `split`."""
    loss = task_loss(torch.from_numpy(logits), split.labels)
    labels = split.labels.numpy()
    others = {metric: score(metric, logits, labels) for metric in task.also}
    return Scores(score(task.metric, logits, labels), float(loss), others)
