"""Sparse students on disk: plain transformers directories, reloaded, counted and scored before they are believed.

Why so: docs/decisions.md #best-means-feasible-and-read-back.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from spd_ray.base.cache import check_sums, write_sums
from spd_ray.base.errors import UserError
from spd_ray.base.files import whole_folder
from spd_ray.base.progress import quiet_transformers
from spd_ray.engine import engine
from spd_ray.equations.patterns import SINGLE, Pattern
from spd_ray.kernels.cost import StudentCost, measure_cost
from spd_ray.model.surgery import encoder_layers, extract_student, student_config
from spd_ray.records.schema import PredictionRecord
from spd_ray.training.teacher import EVAL_BATCH_SIZE, Teacher, evaluate, predict, scores_of
from spd_ray.training.trainer import SpdRun


class LayerZeros(NamedTuple):
    """Zeros of one prunable matrix of a checkpoint."""

    name: str
    numel: int
    zeros: int


class Verification(NamedTuple):
    """What a checkpoint is after it was read back from disk."""

    score: float  # on the split that students are chosen on
    dev_score: float
    other_scores: dict[str, float]  # of the task's other metrics, where `score` is
    sparsity: float
    layers: list[LayerZeros]
    predictions: list[PredictionRecord]  # on dev
    parameters: int  # of the whole model
    zero_parameters: int
    cost: StudentCost


def export_student(run: SpdRun, folder: Path) -> None:
    """Write the run's student to `folder`: config, safetensors, tokenizer, `spd_ray.json`, SHA256SUMS.

    `folder` appears, or replaces an earlier one, complete. The driver adds a model card once it has read it back.
    """
    with whole_folder(folder) as building:
        with quiet_transformers():
            config = student_config(run.teacher.model, run.config.method.student)
            with torch.device("meta"):  # else random numbers for every weight, seconds of them
                student = AutoModelForSequenceClassification.from_config(config)
            student.load_state_dict(extract_student(run.model), assign=True)
            student.save_pretrained(building)
            run.teacher.tokenizer.save_pretrained(building)
        (building / "spd_ray.json").write_text(run.config.model_dump_json(indent=2))
        write_sums(building)


def load_checkpoint(folder: Path) -> PreTrainedModel:
    """Load a student as any user would. Raises UserError if the directory is absent or broken."""
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder}: no checkpoint here; a transformers directory with config.json is expected")
    try:
        with quiet_transformers():
            return AutoModelForSequenceClassification.from_pretrained(folder).eval()
    except Exception as error:
        raise UserError(f"{folder}: the checkpoint cannot be read ({error})") from error


def encoder_matrices(model: PreTrainedModel) -> Iterator[tuple[str, Tensor]]:
    """Every linear matrix of every encoder layer, by name."""
    for index, layer in enumerate(encoder_layers(model)):
        for name, module in layer.named_modules():
            if isinstance(module, torch.nn.Linear):
                yield f"{index}.{name}", module.weight


def count_zeros(model: PreTrainedModel) -> list[LayerZeros]:
    """The zeros of every linear matrix of every encoder layer, from the weights themselves."""
    return [LayerZeros(name, one.numel(), int((one == 0).sum())) for name, one in encoder_matrices(model)]


def verify_checkpoint(
    folder: Path, sparsity: float, per_matrix: bool, teacher: Teacher, pattern: Pattern = SINGLE
) -> Verification:
    """Read `folder` back, count its zeros and score it again, on what students are chosen on and on dev.

    Raises ValueError if a file is not as it was written, or if a matrix (unless `per_matrix`, all of them together)
    has not exactly the zeros that `sparsity` and `pattern` ask for, or not where the pattern wants them.
    """
    check_sums(folder)
    model = load_checkpoint(folder)
    layers = count_zeros(model)
    total = LayerZeros("the encoder", sum(one.numel for one in layers), sum(one.zeros for one in layers))
    for counted in layers if per_matrix else [total]:
        asked = pattern.zeros_asked(counted.numel, sparsity)
        if counted.zeros != asked:
            raise ValueError(
                f"{folder}: {counted.name} has {counted.zeros} zeros, sparsity {sparsity:g} asks for {asked}"
            )
    at_its_end = pattern.sparsity in (None, sparsity)  # on a ladder n:m is on its way
    for name, weight in encoder_matrices(model) if pattern != SINGLE and at_its_end else ():
        if not pattern.holds(weight != 0):
            raise ValueError(f"{folder}: the zeros of {name} are not where the pattern wants them: {pattern}")
    data = teacher.data
    model.to(engine.device())
    scores = evaluate(model, data.chooser, data.task)
    dev_score, predictions = answer_dev(model, teacher)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    zero = parameters - sum(int(parameter.count_nonzero()) for parameter in model.parameters())
    sparsity = total.zeros / total.numel
    facts = (layers, predictions, parameters, zero, measure_cost(model))
    return Verification(scores.score, dev_score, scores.other_scores, sparsity, *facts)


def answer_dev(model: PreTrainedModel, teacher: Teacher) -> tuple[float, list[PredictionRecord]]:
    """The dev score of `model`, and what it answers to every example."""
    data = teacher.data
    logits = predict(model, data.dev, EVAL_BATCH_SIZE, next(model.parameters()).device)
    answers = logits[:, 0] if data.task.is_regression else logits.argmax(axis=1)
    pairs = zip(data.dev.labels.tolist(), answers.tolist(), strict=True)
    records = [
        PredictionRecord(example=example, label=label, prediction=prediction)
        for example, (label, prediction) in enumerate(pairs)
    ]
    return scores_of(logits, data.dev, data.task).score, records
