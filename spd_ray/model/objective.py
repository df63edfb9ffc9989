"""The objective of a step, Eq. (2) of Huang et al. 2022: the terms of `ObjectiveConfig` that have a weight.

A term that compares layers is summed over the student layers that `ObjectiveConfig.layers` names, each beside the last
teacher layer of its block. A layer that was not computed is the teacher's own: its term is exactly zero.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from spd_ray.config.method import MethodConfig, ObjectiveConfig
from spd_ray.data.batches import Shares
from spd_ray.equations import losses
from spd_ray.model.attention import LayerOutputs, ModelOutputs

ALONE = Shares()
OF_HIDDEN, OF_ATTENTION = ("hidden", "first_token", "cosine"), ("attention", "attention_relation")


@dataclass(frozen=True)
class Needs:
    """Which of the teacher's outputs a training reads, by block; its logits and embeddings are always at hand."""

    hidden: tuple[int, ...]
    attention: tuple[int, ...]
    value: tuple[int, ...]

    @classmethod
    def of(cls, method: MethodConfig, blocks: int) -> "Needs":
        """What all objectives of `method` read; a method that grafts also reads the outputs of leading blocks."""

        def read_by(terms: tuple[str, ...]) -> set[int]:
            reading = [one for one in method.objectives if set(terms) & set(one.weights())]
            return {index for one in reading for index in compared_layers(one, blocks)}

        every = set(range(blocks)) if method.grafts else set()
        parts = (read_by(OF_HIDDEN) | every, read_by(OF_ATTENTION), read_by(("value_relation",)))
        return cls(*(tuple(sorted(part)) for part in parts))


def compared_layers(objective: ObjectiveConfig, layers: int) -> range:
    """The student layers whose outputs are compared, of `layers`.

    >>> [compared_layers(ObjectiveConfig(layers=which), 3) for which in ("all", "last", "but_last")]
    [range(0, 3), range(2, 3), range(0, 2)]
    """
    return {"all": range(layers), "last": range(layers - 1, layers), "but_last": range(layers - 1)}[objective.layers]


COUNTED_BY = {
    "task": "examples",
    "prediction": "examples",
    "first_token": "examples",
    "attention": "pairs",
}  # else tokens

LAYER_TERMS: dict[str, Callable[[LayerOutputs, LayerOutputs, Tensor], Tensor]] = {
    "hidden": lambda s, t, tokens: losses.hidden_loss(s.hidden, t.hidden, tokens),
    "attention": lambda s, t, tokens: losses.attention_loss(s.attention, t.attention, tokens),
    "first_token": lambda s, t, tokens: losses.first_token_loss(s.hidden, t.hidden),
    "cosine": lambda s, t, tokens: losses.cosine_loss(s.hidden, t.hidden, tokens),
    "attention_relation": lambda s, t, tokens: losses.relation_loss(s.attention, t.attention, tokens),
    "value_relation": lambda s, t, tokens: losses.relation_loss(
        losses.value_scores(s.value), losses.value_scores(t.value), tokens
    ),
}


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
    values = _own_terms(objective, student, teacher, labels, tokens)
    return {name: value * getattr(shares, COUNTED_BY.get(name, "tokens")) for name, value in values.items()}


def _own_terms(
    objective: ObjectiveConfig, student: ModelOutputs, teacher: ModelOutputs | None, labels: Tensor, tokens: Tensor
) -> dict[str, Tensor]:
    wanted = objective.weights()
    values = {}
    if "task" in wanted:
        values["task"] = losses.task_loss(student.logits, labels)
    if teacher is None:
        return values
    if "prediction" in wanted:
        values["prediction"] = prediction_term(objective, student.logits, teacher.logits, labels)
    if "embedding" in wanted:
        values["embedding"] = losses.hidden_loss(student.embeddings, teacher.embeddings, tokens)
    compared = [
        (ours, theirs)
        for index in compared_layers(objective, len(student.layers))
        if (ours := student.layers[index]) is not None and (theirs := teacher.layers[index]) is not None
    ]
    zero = student.logits.new_zeros((), dtype=torch.float32)
    for name in [name for name in LAYER_TERMS if name in wanted]:  # one order in every process: sums depend on it
        values[name] = sum((LAYER_TERMS[name](ours, theirs, tokens) for ours, theirs in compared), zero)
    return values


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
