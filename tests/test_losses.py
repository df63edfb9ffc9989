"""The terms of Eq. (4) against values worked by hand."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spd_ray.equations import losses

TOKENS = losses.RealTokens(torch.tensor([[True, True, False], [True, False, False]]))  # 3 real tokens


def test_hidden_loss_by_hand():
    teacher = torch.zeros(2, 3, 2)
    student = torch.tensor([[[1.0, 2.0], [3.0, 0.0], [9.0, 9.0]], [[0.0, 2.0], [9.0, 9.0], [9.0, 9.0]]])
    # squares at real tokens: 1 + 4, 9 + 0, 0 + 4 = 18, over 3 tokens of 2
    assert losses.hidden_loss(student, teacher, TOKENS).item() == pytest.approx(3.0)


def test_attention_loss_by_hand():
    teacher = torch.zeros(2, 1, 3, 3)
    student = torch.full((2, 1, 3, 3), 9.0)
    student[0, 0, :2, :2] = torch.tensor([[1.0, 2.0], [0.0, 3.0]])
    student[1, 0, 0, 0] = 4.0
    # (1 + 4 + 0 + 9) of the first example's four pairs, 16 of the second's one
    assert losses.attention_loss(student, teacher, TOKENS).item() == pytest.approx(30 / 5)


def test_prediction_loss_by_hand():
    # equal logits: both classes 1/2, and -sum 1/2 log 1/2 = log 2 whatever the temperature
    zeros = torch.zeros(4, 2)
    assert losses.prediction_loss(zeros, zeros, 3.0).item() == pytest.approx(math.log(2))
    # teacher certain of class 0, student's odds e^2 : 1 halved by temperature 2 to e : 1
    student, teacher = torch.tensor([[2.0, 0.0]]), torch.tensor([[50.0, -50.0]])
    assert losses.prediction_loss(student, teacher, 2.0).item() == pytest.approx(math.log(1 + math.exp(-1)))


def test_regression_compares_the_outputs():
    student, teacher = torch.tensor([[1.0], [3.0]]), torch.tensor([[0.0], [1.0]])
    assert losses.prediction_loss(student, teacher, 1.0).item() == pytest.approx(2.5)
    assert losses.task_loss(student, torch.tensor([1.0, 1.0])).item() == pytest.approx(2.0)


def test_task_loss_is_cross_entropy():
    assert losses.task_loss(torch.tensor([[0.0, math.log(3)]]), torch.tensor([1])).item() == pytest.approx(
        -math.log(0.75)
    )


@given(padding=st.integers(1, 5), seed=st.integers(0, 1000))
def test_padding_changes_nothing(padding, seed):
    generator = torch.Generator().manual_seed(seed)

    def random(*shape):
        return torch.randn(shape, generator=generator)

    real = torch.tensor([[True] * 4, [True] * 3 + [False]])
    tokens, padded_tokens = losses.RealTokens(real), losses.RealTokens(torch.nn.functional.pad(real, (0, padding)))
    student, teacher = random(2, 4, 5), random(2, 4, 5)
    padded = [torch.cat([x, random(2, padding, 5)], dim=1) for x in (student, teacher)]
    assert torch.allclose(
        losses.hidden_loss(student, teacher, tokens), losses.hidden_loss(*padded, padded_tokens), rtol=1e-5
    )
    student, teacher = random(2, 3, 4, 4), random(2, 3, 4, 4)
    padded = [torch.nn.functional.pad(x, (0, padding, 0, padding), value=7.0) for x in (student, teacher)]
    padded[0][..., 4:, :] += 1.0
    assert torch.allclose(
        losses.attention_loss(student, teacher, tokens), losses.attention_loss(*padded, padded_tokens), rtol=1e-5
    )


def test_temperature_on_both_sides_is_hintons():
    student, teacher = torch.tensor([[2.0, 0.0]]), torch.tensor([[4.0, 0.0]])
    # T = 2: softmax(2, 0) = .8808, .1192; log softmax(1, 0) = -.31326, -1.31326; times T^2 = 4
    expected = 4 * (0.880797 * 0.313262 + 0.119203 * 1.313262)
    assert losses.prediction_loss(student, teacher, 2.0, on_both=True) == pytest.approx(expected, rel=1e-5)


def test_averaging_over_classes_divides_by_their_number():
    student, teacher = torch.randn(3, 5), torch.randn(3, 5)
    whole = losses.prediction_loss(student, teacher, 1.0)
    assert losses.prediction_loss(student, teacher, 1.0, average_classes=True) == pytest.approx(float(whole) / 5)


def test_first_token_loss_by_hand():
    # (3, 4) / 5 = (.6, .8) against (1, 0): (.16 + .64) / 2; the second token does not count
    student = torch.tensor([[[3.0, 4.0], [9.0, 9.0]]])
    teacher = torch.tensor([[[2.0, 0.0], [0.0, 1.0]]])
    assert losses.first_token_loss(student, teacher) == pytest.approx(0.4)


def test_cosine_loss_by_hand_ignores_padding():
    student = torch.tensor([[[1.0, 0.0], [0.0, 2.0], [5.0, 5.0]]])
    teacher = torch.tensor([[[1.0, 1.0], [0.0, 1.0], [-5.0, -5.0]]])
    tokens = losses.RealTokens(torch.tensor([[True, True, False]]))
    assert losses.cosine_loss(student, teacher, tokens) == pytest.approx((1 - 0.5**0.5) / 2, rel=1e-5)


def test_relation_loss_is_kl_over_real_keys():
    # one real query and key pair of (0, ln 3) against (0, 0): t = (1/4, 3/4), s = (1/2, 1/2)
    teacher = torch.tensor([[[[0.0, 1.0986123, 7.0]] * 3]])
    student = torch.tensor([[[[0.0, 0.0, -9.0]] * 3]])
    tokens = losses.RealTokens(torch.tensor([[True, True, False]]))
    expected = 0.25 * np.log(0.5) + 0.75 * np.log(1.5)
    assert losses.relation_loss(student, teacher, tokens) == pytest.approx(expected, rel=1e-5)
    assert losses.relation_loss(teacher, teacher, tokens) == pytest.approx(0.0, abs=1e-7)


def test_value_scores_by_hand():
    value = torch.tensor([[[[1.0, 2.0, 2.0, 0.0], [0.0, 2.0, 0.0, 0.0]]]])
    assert losses.value_scores(value).tolist() == [[[[4.5, 2.0], [2.0, 2.0]]]]


def test_consistency_weighs_both_originals_and_gives_them_no_gradient():
    mixed = torch.tensor([[[1.0]], [[2.0]]], requires_grad=True)
    plain = torch.tensor([[[0.0]], [[4.0]]], requires_grad=True)
    tokens = losses.RealTokens(torch.ones(2, 1, dtype=torch.bool))
    loss = losses.consistency_loss(mixed, plain, torch.tensor([1, 0]), 0.75, tokens)
    assert loss.item() == pytest.approx(0.75 * (1 + 4) / 2 + 0.25 * (9 + 4) / 2)
    loss.backward()
    assert plain.grad is None
    assert mixed.grad is not None
