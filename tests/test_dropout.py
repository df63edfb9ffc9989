"""Dropout from 16 random bits an element."""

import pytest
import torch

from spd_ray.model.dropout import Dropout, drop


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_a_share_p_is_dropped_and_the_mean_is_kept(p):
    torch.manual_seed(0)
    values = drop(torch.ones(1000, 1001), p, training=True)
    kept = values != 0
    assert kept.float().mean().item() == pytest.approx(1 - p, abs=2e-3)
    assert values.mean().item() == pytest.approx(1.0, abs=4e-3)
    assert values[kept].unique().numel() == 1
    halves = kept.float().reshape(-1, 7)
    assert torch.corrcoef(halves.T).fill_diagonal_(0).abs().max() < 0.02  # neighbours are independent


def test_what_is_dropped_gets_no_gradient_and_the_rest_the_scale():
    torch.manual_seed(0)
    input = torch.full((5, 7), 2.0, requires_grad=True)
    output = drop(input, 0.25, training=True)
    output.sum().backward()
    assert torch.equal(input.grad, output.detach() / 2)
    assert output.unique().tolist() == [0.0, pytest.approx(2 / 0.75)]


def test_the_seed_decides_and_evaluation_changes_nothing():
    layer, input = Dropout(0.3), torch.randn(4, 6).bfloat16()

    def of_seed(seed):
        torch.manual_seed(seed)
        return layer(input)

    assert torch.equal(of_seed(1), of_seed(1))
    assert not torch.equal(of_seed(1), of_seed(2))
    assert of_seed(1).dtype == torch.bfloat16
    assert layer.eval()(input) is input
