"""The objective of a step, Eq. (2) of Huang et al. 2022: the terms of `ObjectiveConfig` that have a weight.

A term that compares layers is summed over the student layers that `ObjectiveConfig.layers` names, each beside the last
teacher layer of its block. A layer that was not computed is the teacher's own: its term is exactly zero.

Why so: docs/decisions.md #ranks-share-a-batch.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from spd_ray.config.method import TERMS, MethodConfig, ObjectiveConfig
from spd_ray.data.batches import Shares
from spd_ray.equations import losses
from spd_ray.equations.loss_terms import LossTerm
from spd_ray.model.attention import LayerOutputs, ModelOutputs

ALONE = Shares()


@dataclass(frozen=True)
class Needs:
    """Which of the teacher's outputs a training reads, by block; its logits and embeddings are always at hand."""

    hidden: tuple[int, ...]
    attention: tuple[int, ...]
    value: tuple[int, ...]

    @classmethod
    def of(cls, method: MethodConfig, blocks: int) -> "Needs":
        """What all objectives of `method` read; a method that grafts also reads the outputs of leading blocks."""

        def read(output: str) -> set[int]:
            reading = [one for one in method.objectives if any(TERMS[n].reads == output for n in one.weights())]
            return {index for one in reading for index in compared_layers(one, blocks)}

        every = set(range(blocks)) if method.grafts else set()
        parts = (read("hidden") | every, read("attention"), read("value"))
        return cls(*(tuple(sorted(part)) for part in parts))


def compared_layers(objective: ObjectiveConfig, layers: int) -> range:
    """The student layers whose outputs are compared, of `layers`.

    >>> [compared_layers(ObjectiveConfig(layers=which), 3) for which in ("all", "last", "but_last")]
    [range(0, 3), range(2, 3), range(0, 2)]
    """
    return {"all": range(layers), "last": range(layers - 1, layers), "but_last": range(layers - 1)}[objective.layers]


def terms(
    objective: ObjectiveConfig,
    student: ModelOutputs,
    teacher: ModelOutputs | None,
    labels: Tensor,
    tokens: Tensor,
    shares: Shares = ALONE,
) -> dict[str, Tensor]:
    """The objective's terms but for `consistency`, by name, each a scalar; labels (B,), tokens (B, L).

    Each is multiplied by its share, so that the mean over ranks is the term of the whole batch.
    """
    if objective.tokens == "all":
        tokens = torch.ones_like(tokens)
        shares = Shares(*[shares.examples] * 3)
    values = _own_terms(objective, student, teacher, labels, losses.RealTokens(tokens))
    factors = {name: getattr(shares, TERMS[name].counted_by) for name in values}
    return {name: value if factors[name] == 1.0 else value * factors[name] for name, value in values.items()}


def _own_terms(
    objective: ObjectiveConfig,
    student: ModelOutputs,
    teacher: ModelOutputs | None,
    labels: Tensor,
    tokens: losses.RealTokens,
) -> dict[str, Tensor]:
    zero = student.logits.new_zeros((), dtype=torch.float32)
    values = {}
    for name in objective.weights():
        term = TERMS[name]
        if term.reads == "labels":
            values[name] = _function(term)(student.logits, labels)
        elif teacher is None or term.reads == "mixed":
            continue
        elif name == "prediction":
            values[name] = prediction_term(objective, student.logits, teacher.logits, labels)
        elif term.of_layers:
            pairs = _compared_pairs(objective, student, teacher)
            values[name] = sum((_compare(term, ours, theirs, tokens) for ours, theirs in pairs), zero)
        else:
            values[name] = _compare(term, student, teacher, tokens)
    return values


def _compared_pairs(
    objective: ObjectiveConfig, student: ModelOutputs, teacher: ModelOutputs
) -> list[tuple[LayerOutputs, LayerOutputs]]:
    """The compared layers that were computed, each student layer with the teacher layer that it stands for."""
    return [
        (ours, theirs)
        for index in compared_layers(objective, len(student.layers))
        if (ours := student.layers[index]) is not None and (theirs := teacher.layers[index]) is not None
    ]


def _compare(
    term: LossTerm,
    student: LayerOutputs | ModelOutputs,
    teacher: LayerOutputs | ModelOutputs,
    tokens: losses.RealTokens,
) -> Tensor:
    """The term's function of the output that it reads, a scalar."""
    function = _function(term)
    outputs = getattr(student, term.reads), getattr(teacher, term.reads)
    return function(*outputs) if term.counted_by == "examples" else function(*outputs, tokens)


def _function(term: LossTerm) -> Callable[..., Tensor]:
    """The function that computes the term."""
    return term.function if callable(term.function) else getattr(losses, term.function)


def prediction_term(objective: ObjectiveConfig, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    """L_pred of (B, C) logits; in regression the target may be the labels (B,)."""
    if student.shape[-1] == 1 and objective.regression_target == "labels":
        return losses.task_loss(student, labels)
    both = objective.temperature_on == "both"
    return losses.prediction_loss(student, teacher, objective.temperature, both, objective.average_classes)


def weighted_sum(objective: ObjectiveConfig, values: dict[str, Tensor]) -> Tensor:
    """Eq. (2): the terms by their weights."""
    weights = objective.weights()
    return torch.stack([weights[name] * value for name, value in values.items()]).sum()
