"""Does the model fit the method? The untrained classifier is grafted and runs the task's longest texts.

Nothing is judged by its name: what a training does with a model is done here, once, on a few examples.

Why so: docs/decisions.md #compiled-layers, #preflight.
"""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from random import Random

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from spd_ray.base.errors import UserError
from spd_ray.checks.finding import OK, WARNING, Finding
from spd_ray.checks.untrained import Untrained, describe_head
from spd_ray.config.dimensions import Value
from spd_ray.config.method import MethodConfig
from spd_ray.config.sweep import SweepSpec
from spd_ray.config.timeline import Timeline
from spd_ray.config.trial import ModelConfig, TeacherConfig
from spd_ray.data.batches import collate
from spd_ray.model import surgery
from spd_ray.model.compiled import CAPTURE
from spd_ray.model.objective import Needs
from spd_ray.training.teacher_outputs import LiveTeacher, in_memory, record

POINTS_TRIED = 50  # of the space, for the kinds of student that it has
TOLERANCE = 1e-3  # of logits that are computed in another way
SUPPORTED = (
    "an encoder is needed whose layers are one list of equal modules with nn.Linear matrices and attention by "
    "transformers' attention interface: BERT, RoBERTa, DistilBERT, ELECTRA and ModernBERT are tested"
)


def check_model(spec: SweepSpec, untrained: Untrained) -> Finding:
    """The classifier reads this task's longest texts, padding changes nothing, and every student can be grafted.

    Raises UserError naming the kind of model and what is supported.
    """
    place = describe_place(spec.model, spec.teacher)
    kind = type(untrained.model).__name__
    if untrained.tokenizer.pad_token_id is None:
        raise UserError(f"{place}: the tokenizer of this {kind} has no padding token; {SUPPORTED}")
    width = spec.task.max_length if spec.task.padding == "max_length" else None
    logits, alone = run_extremes(untrained, place, kind, width)
    check_ladders(spec, untrained.train_examples)
    for point in points_of(spec):
        with explained(f"{place}: {kind} cannot be grafted", SUPPORTED):
            students, inputs = graft_and_record(untrained, spec.method_at(point), logits)
        if spec.engine.compile_layers:
            with explained(f"engine.compile_layers: the layers of this {kind} are not one graph", "set it to false"):
                run_as_graphs(students, inputs)
    if not close(logits[:1], alone):
        raise UserError(
            f"{place}: padding changes what this {kind} answers: its padding token and the tokenizer's "
            f"({untrained.tokenizer.pad_token!r}) differ, or it does not read the attention mask; {SUPPORTED}"
        )
    matrices = sum(isinstance(one, nn.Linear) for one in surgery.encoder_layers(untrained.model).modules())
    text = (
        f"{place}: {kind} of {untrained.model.num_parameters() / 1e6:.1f} million parameters, "
        f"{matrices} prunable matrices, reads {int(untrained.extremes.lengths.max())} tokens"
    )
    if untrained.labels is None:
        return Finding(OK, "model", text)
    mend = "give it as teacher.path to train no other, or a pretrained encoder without a classifier"
    return Finding(WARNING, "model", f"{text}; {describe_head(untrained.labels, untrained.sample.task)}", mend)


def check_ladders(spec: SweepSpec, train_examples: int) -> None:
    """Raises UserError where no point that was looked at has the steps for its ladder's levels."""
    refused: UserError | None = None
    for point in possible_points(spec):
        try:
            return Timeline.of(spec.method_at(point), train_examples).check_ladder()
        except UserError as error:
            refused = error
    if refused:
        raise refused


def describe_place(model: ModelConfig, teacher: TeacherConfig) -> str:
    """Where the model was named, as an error names it."""
    if teacher.is_given:
        return f"teacher.path: {teacher.path}" if teacher.path is not None else f"teacher.name: {teacher.name}"
    return f"model.path: {model.path}" if model.path is not None else f"model.name: {model.name}"


@contextmanager
def explained(what: str, mend: str) -> Iterator[None]:
    """One line, `what` (the error); `mend`, for whatever a model raises."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        reason = str(error).strip().splitlines()
        raise UserError(f"{what} ({reason[0][:200] if reason else type(error).__name__}); {mend}") from error


@torch.no_grad()
def run_extremes(untrained: Untrained, place: str, kind: str, width: int | None) -> tuple[Tensor, Tensor]:
    """Logits (N, C) of the extremes in one batch, padded to the longest or to `width`, and (1, C) of the first alone.

    Raises UserError where an embedding has no row for what the tokenizer gives.
    """
    model, split = untrained.model, untrained.extremes
    inputs = collate(split, np.arange(len(split)), "cpu", width)
    del inputs["labels"]
    with explained(f"{place}: this {kind} cannot run the task's longest texts", SUPPORTED), named_rows(model, inputs):
        logits = model(**inputs).logits
        shortest = collate(split, np.arange(1), "cpu")
        del shortest["labels"]
        alone = model(**shortest).logits
    return logits, alone


@contextmanager
def named_rows(model: nn.Module, inputs: dict[str, Tensor]) -> Iterator[None]:
    """Refuse, by its name, the embedding that is asked for a row that it does not have: torch gives no name."""

    def refuse(name: str, module: nn.Embedding, arguments: tuple[Tensor, ...]) -> None:
        rows, asked = module.num_embeddings, int(arguments[0].max())
        if asked >= rows:
            raise UserError(explain_rows(name, rows, asked, arguments[0], inputs))

    found = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Embedding)]
    hooks = [module.register_forward_pre_hook(partial(refuse, name)) for name, module in found]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def explain_rows(name: str, rows: int, asked: int, indices: Tensor, inputs: dict[str, Tensor]) -> str:
    """What it means that the embedding `name` has `rows` rows and row `asked` is read."""

    def are(given: str) -> bool:
        return given in inputs and indices.shape == inputs[given].shape and bool((indices == inputs[given]).all())

    if are("token_type_ids"):
        return (
            f"model: {name} has {rows} row{'s' * (rows > 1)}, but the tokenizer gives token type {asked} to the second "
            f"text of a pair; the tokenizer and the model belong to different models: use the model's own tokenizer"
        )
    if are("input_ids"):
        return f"model: {name} has {rows} rows, but the tokenizer gives token {asked}; they belong to different models"
    longest = inputs["input_ids"].shape[1] - (asked - rows + 1)
    return f"task.max_length: {name} has {rows} rows, so that the model reads at most {longest} tokens: give that"


def close(found: Tensor, expected: Tensor) -> bool:
    return bool(torch.allclose(found, expected, rtol=TOLERANCE, atol=TOLERANCE))


def points_of(spec: SweepSpec) -> list[dict[str, Value]]:
    """A possible point for each kind of student and pattern, and of what is recorded, that a look at some finds."""
    found: dict[tuple[float | str, ...], dict[str, Value]] = {}
    for point in possible_points(spec):
        method = spec.method_at(point)
        pattern = "single" if method.pruning == "none" else method.pattern
        kind = (method.student.depth, method.student.pick, method.objective.attention_maps, pattern)
        found.setdefault(kind, point)
    return list(found.values())


def possible_points(spec: SweepSpec) -> Iterator[dict[str, Value]]:
    """Those that are possible of a sweep's first points and of some that are drawn."""
    random = Random(0)
    drawn = (spec.random_point(random) for _ in range(POINTS_TRIED))
    return filter(spec.is_possible, itertools.chain(spec.first_points()[:POINTS_TRIED], drawn))


@torch.no_grad()
def graft_and_record(
    untrained: Untrained, method: MethodConfig, logits: Tensor
) -> tuple[PreTrainedModel, dict[str, Tensor]]:
    """Graft, record what the method reads of the teacher, and run the students: raises for what does not work.

    The teacher's blocks must answer `logits`, as the classifier did; so must students that stand for one layer each.
    Returns the grafted model and its inputs.
    """
    model, split = untrained.model, untrained.extremes
    grafted = surgery.graft(model, method.student, method.objective.attention_maps, dropout=0.0, shares_frozen=True)
    layers = surgery.grafted_layers(grafted)
    without = [index for index, layer in enumerate(layers) if not list(surgery.masked_linears(layer))]
    if without:
        raise ValueError(f"layer {without[0]} has no nn.Linear matrix to prune")
    if method.pruning != "none":
        surgery.check_pattern(grafted, method.zeros, method.pattern)
    recorded = record(partial(in_memory, grafted), LiveTeacher(grafted, layers), split, Needs.of(method, len(layers)))
    if not close(recorded.logits, logits):
        raise ValueError("with grafted layers it computes something else")
    inputs = collate(split, np.arange(len(split)), "cpu")
    del inputs["labels"]
    surgery.set_draw(layers, (True,) * len(layers))
    students = surgery.run_model(grafted, layers, inputs).logits
    if method.student.depth == 1 and not close(students, logits):
        raise ValueError("copies of its layers compute something else")
    return grafted, inputs


@torch.no_grad()
def run_as_graphs(grafted: PreTrainedModel, inputs: dict[str, Tensor]) -> None:
    """Run students and teacher, each layer captured as one graph: raises where torch cannot."""
    layers = surgery.grafted_layers(grafted)
    for drawn in (True, False):
        surgery.set_draw(layers, (drawn,) * len(layers))
        surgery.run_model(grafted, layers, inputs, CAPTURE)
