"""Eq. (2): which terms an objective has, over which layers, and what it reads of the teacher."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from spd_ray.config.method import MethodConfig, ObjectiveConfig
from spd_ray.model.attention import LayerOutputs, ModelOutputs
from spd_ray.model.objective import Needs, compared_layers, prediction_term, terms, weighted_sum

TOKENS = torch.tensor([[True, True, False]])
LABELS = torch.tensor([1])
NOTHING = {"hidden": 0, "attention": 0, "prediction": 0}


def layer(level: float) -> LayerOutputs:
    """A layer whose outputs are `level` at the real positions and far away at the padded one."""
    hidden = torch.full((1, 3, 4), level)
    hidden[:, 2] = 100 * level + 7
    return LayerOutputs(hidden, torch.full((1, 2, 3, 3), level), torch.full((1, 2, 3, 2), level))


def model(*levels: float | None, logits: tuple[float, ...] = (0.0, 0.0)) -> ModelOutputs:
    layers = tuple(None if level is None else layer(level) for level in levels)
    return ModelOutputs(torch.tensor([logits]), torch.full((1, 3, 4), 2.0), layers)


TEACHER = model(1.0, 2.0, 3.0)


def value(objective: ObjectiveConfig, student: ModelOutputs, name: str) -> float:
    return terms(objective, student, TEACHER, LABELS, TOKENS)[name].item()


@pytest.mark.parametrize(("layers", "expected"), [("all", 1 + 4 + 9), ("last", 9), ("but_last", 1 + 4)])
def test_a_term_is_summed_over_the_layers_that_are_compared(layers: str, expected: float) -> None:
    objective = ObjectiveConfig.model_validate({**NOTHING, "hidden": 1, "layers": layers})
    assert value(objective, model(0.0, 0.0, 0.0), "hidden") == expected


def test_a_layer_that_was_not_computed_adds_nothing() -> None:
    objective = ObjectiveConfig(hidden=1, attention=1, prediction=0)
    assert value(objective, model(None, 0.0, 0.0), "hidden") == 4 + 9
    assert value(objective, model(None, None, None), "attention") == 0.0


def test_padding_enters_the_means_only_if_asked_for() -> None:
    objective = ObjectiveConfig(hidden=1, attention=0, prediction=0, layers="last", tokens="all")
    assert value(objective, model(0.0, 0.0, 0.0), "hidden") == pytest.approx((9 + 9 + 300**2) / 3)


def test_only_terms_with_a_weight_are_there_and_the_sum_weighs_them() -> None:
    objective = ObjectiveConfig(hidden=2, attention=0, prediction=0, task=3, layers="last")
    found = terms(objective, model(0.0, 0.0, 0.0), TEACHER, LABELS, TOKENS)
    assert set(found) == {"task", "hidden"}
    assert weighted_sum(objective, found).item() == pytest.approx(2 * 9 + 3 * 0.6931472)


def test_the_terms_have_one_order_in_every_process() -> None:
    objective = ObjectiveConfig.model_validate({**NOTHING, "cosine": 1, "hidden": 1, "task": 1, "attention": 1})
    code = (
        "import test_objective as t; from spd_ray.config.method import ObjectiveConfig as C; "
        f"print(*t.terms(C.model_validate({objective.model_dump()}), t.model(0., 0.), t.TEACHER, t.LABELS, t.TOKENS))"
    )
    for hash_seed in ("1", "2", "3"):  # the order of a set of names follows it
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, cwd=Path(__file__).parent, capture_output=True, text=True
        )
        assert done.stdout.split() == ["task", "hidden", "attention", "cosine"], done.stderr


def test_without_a_teacher_the_labels_are_left() -> None:
    objective = ObjectiveConfig(**NOTHING, task=1)
    assert set(terms(objective, model(0.0), None, LABELS, TOKENS)) == {"task"}


def test_the_regression_target_may_be_the_labels() -> None:
    student, teacher, labels = torch.tensor([[1.0]]), torch.tensor([[3.0]]), torch.tensor([2.0])
    targets = [
        prediction_term(ObjectiveConfig(regression_target=target), student, teacher, labels).item()
        for target in ("teacher", "labels")
    ]
    assert targets == [4.0, 1.0]


def test_what_a_training_reads_of_the_teacher() -> None:
    spd = MethodConfig()
    assert Needs.of(spd, 3) == Needs((0, 1, 2), (0, 1, 2), ())
    labels_alone = MethodConfig(objective=ObjectiveConfig(**NOTHING, task=1))
    assert Needs.of(labels_alone, 3) == Needs((0, 1, 2), (), ())  # the leading blocks' outputs
    relations = ObjectiveConfig(**NOTHING, value_relation=1, layers="last")
    phased = MethodConfig(
        grafting="none", phases=({"until": 0.5, "objective": relations},), objective=ObjectiveConfig(**NOTHING, task=1)
    )
    assert Needs.of(phased, 3) == Needs((), (), (2,))
    assert list(compared_layers(relations, 3)) == [2]
