"""Scores of weights and masks that grow again: against what they are by definition."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spd_ray.equations import criteria
from spd_ray.equations.criterion_table import CRITERIA
from spd_ray.equations.masks import zeros_asked
from spd_ray.equations.regrowth import exchanged_mask

FISHER = {"block_size": 3, "damping": 0.5, "gradients": 4}


def fisher_of(gradients):
    statistics = {}
    for gradient in gradients:
        statistics = criteria.fisher_update(gradient, statistics, FISHER)
    return statistics


@pytest.mark.parametrize("name", CRITERIA)
def test_a_row_names_functions_and_scores_what_no_step_has_touched(name):
    row, weight = CRITERIA[name], torch.tensor([[1.0, -2.0]])
    assert (row.update is None) == (row.reads == "weights")
    if row.reads != "events":
        assert getattr(criteria, row.score)(weight, {}, {}).shape == weight.shape
    if row.update is not None:
        settings = {**FISHER, "beta1": 0.5, "beta2": 0.5, "window": 2, "penalty": 1.0, "score_lr": 0.1}
        found = getattr(criteria, row.update)(torch.zeros(1, 2), {}, settings)
        assert sum(one.shape == weight.shape for one in found.values()) == row.floats
        assert getattr(criteria, row.score)(weight, found, settings).shape == weight.shape


def test_movement_keeps_what_moves_away_from_zero():
    """Under gradient descent w <- w - g a weight with w g < 0 grows: its score is the higher."""
    weight, statistics = torch.tensor([1.0, 1.0]), {}
    for gradient in (torch.tensor([-0.1, 0.1]), torch.tensor([-0.1, 0.1])):
        statistics = criteria.movement_update(weight * gradient, statistics, {})
        weight = weight - gradient
    # 0.1 + 1.1 x 0.1 and -0.1 - 0.9 x 0.1
    assert criteria.movement_score(weight, statistics, {}).tolist() == pytest.approx([0.21, -0.19])


def test_platon_over_three_steps_by_hand():
    """beta1 0.5, beta2 0.75; I = 4, 0, 2: sensitivity 2, 1, 1.5; |I - it| 2, 1, 0.5; uncertainty .5, .625, .59375."""
    statistics, settings = {}, {"beta1": 0.5, "beta2": 0.75, "window": 1}
    for product in (4.0, 0.0, -2.0):
        statistics = criteria.platon_update(torch.tensor([product]), statistics, settings)
    assert criteria.platon_score(torch.ones(1), statistics, settings).item() == pytest.approx(1.5 * 0.59375)


def test_platons_window_by_hand():
    """As the authors' code, a window of 2: I = 3, 2.5; sensitivity 1.5, 2; |I - it| 1.5, .5; uncertainty .375, .40625.

    An event within a window takes its steps so far: I = 8, sensitivity 5, uncertainty 0.75 x 0.40625 + 0.25 x 3.
    """
    statistics, settings, scores = {}, {"beta1": 0.5, "beta2": 0.75, "window": 2}, []
    for product in (-4.0, 2.0, 0.0, 5.0, 8.0):
        statistics = criteria.platon_update(torch.tensor([product]), statistics, settings)
        scores.append(criteria.platon_score(torch.ones(1), statistics, settings).item())
    assert [scores[1], scores[3], scores[4]] == pytest.approx([1.5 * 0.375, 2 * 0.40625, 5 * 1.0546875])


def test_an_exchange_rounds_its_share_down():
    """RigL's code casts n_ones x drop_fraction to an integer: 0.3 of 9 kept weights are 2."""
    mask = torch.arange(18) < 9
    scores, growth = torch.arange(18.0).flip(0), torch.arange(18.0)
    assert exchanged_mask(scores, growth, mask, 0.5, 0.3).nonzero().flatten().tolist() == [*range(7), 16, 17]


def test_the_penalty_alone_lowers_soft_scores_below_the_threshold_and_a_gradient_holds_them():
    statistics, settings = {}, {"penalty": 1.0, "score_lr": 0.1}
    for _ in range(30):
        statistics = criteria.soft_movement_update(torch.tensor([0.0, -1.0]), statistics, settings)
    low, high = criteria.soft_movement_score(torch.ones(2), statistics, settings).tolist()
    assert low < 0.1  # S = -3 after 30 steps of 0.1, were they all of full length
    assert high > 0.9


@given(seed=st.integers(0, 2**16))
def test_the_fishers_score_is_the_least_rise_of_its_quadratic_loss_and_compensation_reaches_it(seed):
    """min over d with d_i = -w_i of d H d / 2, H = sum g g^T / m + damping I in a block (Hassibi and Stork 1993)."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(2, 4, generator=generator)  # blocks of 3: two whole ones, and one of two
    statistics = fisher_of(torch.randn(4, 2, 4, generator=generator))
    scores = criteria.fisher_score(weight, statistics, FISHER).flatten()
    gone = torch.zeros(8, dtype=torch.bool)
    for index in (0, 4, 7):
        one = gone.clone()
        one[index] = True
        change = criteria.fisher_compensation(weight, one.view(2, 4), statistics, FISHER).flatten()
        first = index // 3 * 3
        block = change[first : first + 3].double()
        matrix = (statistics["fisher"][index // 3].double() + 0.5 * torch.eye(3))[: len(block), : len(block)]
        assert change[index] == pytest.approx(-weight.flatten()[index].item(), rel=1e-5)
        assert (block @ matrix @ block / 2).item() == pytest.approx(scores[index].item(), rel=1e-4)
        assert not change[:first].any()
        assert not change[first + 3 :].any()


@given(seed=st.integers(0, 2**16), gone=st.lists(st.booleans(), min_size=6, max_size=6))
def test_compensation_of_a_group_is_zero_on_it_and_the_best_elsewhere(seed, gone):
    generator = torch.Generator().manual_seed(seed)
    weight, chosen = torch.randn(6, generator=generator), torch.tensor(gone)
    statistics = fisher_of(torch.randn(4, 6, generator=generator))
    change = criteria.fisher_compensation(weight, chosen, statistics, FISHER).double()
    torch.testing.assert_close((weight + change)[chosen], torch.zeros(int(chosen.sum())).double(), rtol=0, atol=1e-5)
    slope = torch.cat(
        [(f.double() + 0.5 * torch.eye(3)) @ d for f, d in zip(statistics["fisher"], change.view(2, 3), strict=True)]
    )
    assert slope[~chosen].abs().max().item() < 1e-4 if not chosen.all() else True  # nothing is left to be won


@given(
    numel=st.integers(2, 200), sparsity=st.floats(0.05, 0.95), share=st.floats(0, 1), seed=st.integers(0, 2**16),
)  # fmt: skip
def test_an_exchange_keeps_as_many_as_are_asked_for_the_strong_and_the_wanted(numel, sparsity, share, seed):
    generator = torch.Generator().manual_seed(seed)
    scores, growth = torch.rand(2, numel, generator=generator)
    mask = torch.rand(numel, generator=generator) < 1 - sparsity / 2
    kept = numel - zeros_asked(numel, sparsity)
    mask[:kept] = True  # rates rise: a mask keeps no fewer than the next event
    found = exchanged_mask(scores, growth, mask, sparsity, share)
    assert int(found.sum()) == kept
    grown = 0 if mask.all() else int(share * kept)
    stayed, came = found & mask, found & ~mask
    assert int(came.sum()) <= grown
    if (dropped := mask & ~found).any() and grown == 0:
        assert scores[stayed].min() >= scores[dropped].max() if stayed.any() else True
    if came.any() and (left := ~mask & ~found).any():
        assert growth[came].min() >= growth[left].max()
