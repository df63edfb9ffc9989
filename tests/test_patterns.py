"""Patterns of zeros: exact counts and the projection of Eq. (3) onto each, against all masks there are."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spd_ray.equations.masks import magnitude_mask
from spd_ray.equations.patterns import Pattern

PATTERNS = ["single", "1:2", "2:4", "1:4", "4:8", "1x2", "2x2", "2x1", "4x4"]


def project(weight: torch.Tensor, mask: torch.Tensor, sparsity: float, pattern: Pattern) -> torch.Tensor:
    return pattern.of_units(magnitude_mask(*pattern.units(pattern.magnitudes(weight), mask), sparsity))


def kept_all(weight: torch.Tensor) -> torch.Tensor:
    return torch.ones_like(weight, dtype=torch.bool)


def test_two_of_four_by_hand():
    weight = torch.tensor([[0.1, -0.9, 0.3, 0.2, 5.0, 4.0, -3.0, 2.0]])
    half = project(weight, kept_all(weight), 0.5, Pattern.parse("2:4"))
    assert half.tolist() == [[False, True, True, False, True, True, False, False]]  # 3.0 goes though 0.3 stays
    # a quarter of 8 are 2 zeros: the smallest of those that may go at the end
    quarter = project(weight, kept_all(weight), 0.25, Pattern.parse("2:4"))
    assert quarter.tolist() == [[False, True, True, False, True, True, True, True]]


def test_blocks_by_hand():
    """Squares of the 2 x 2 blocks: 4 x 0.01 = 0.04, 1 + 0 + 0 + 0, 4 x 0.25 = 1.0 + a bit, 9."""
    weight = torch.tensor([
        [0.1, 0.1, 1.0, 0.0],
        [-0.1, 0.1, 0.0, 0.0],
        [0.5, 0.5, 3.0, 0.0],
        [0.5, -0.6, 0.0, 0.0],
    ])  # fmt: skip
    mask = project(weight, kept_all(weight), 0.5, Pattern.parse("2x2"))
    assert mask.int().tolist() == [[0, 0, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1], [1, 1, 1, 1]]


def test_zeros_are_of_whole_blocks():
    assert [Pattern.parse("4x4").zeros_asked(64, s) for s in (0.0, 0.3, 0.5, 0.9)] == [0, 16, 32, 64]
    assert [Pattern.parse(text).sparsity for text in ("2:4", "4:8", "1:4", "single", "4x4")] == [
        0.5, 0.5, 0.75, None, None,
    ]  # fmt: skip


def cost(weight: torch.Tensor, mask: torch.Tensor) -> float:
    return float(weight.masked_select(~mask).square().sum())


@pytest.mark.parametrize("text", ["single", "1:2", "2:4", "1:4", "1x2", "2x2"])
@given(seed=st.integers(0, 2**16), zeros=st.integers(0, 8))
def test_no_other_mask_of_the_set_is_nearer(text: str, seed: int, zeros: int) -> None:
    """The set, written out: `zeros` zeros, at most m - n in each group, whole blocks."""
    pattern = Pattern.parse(text)
    weight = torch.randn(2, 4, generator=torch.Generator().manual_seed(seed))
    found = project(weight, kept_all(weight), zeros / 8, pattern)
    best = float("inf")
    for gone in itertools.combinations(range(8), pattern.zeros_asked(8, zeros / 8)):
        mask = torch.ones(8, dtype=torch.bool)
        mask[list(gone)] = False
        groups = mask.view(-1, pattern.group).sum(dim=1)
        blocks = mask.view(2 // pattern.rows, pattern.rows, 4 // pattern.columns, pattern.columns)
        whole = all(len(set(block.flatten().tolist())) == 1 for row in blocks.unbind(0) for block in row.unbind(1))
        if whole and int(groups.min()) >= pattern.kept:
            best = min(best, cost(weight, mask.view(2, 4)))
    possible = pattern.sparsity is None or zeros / 8 <= pattern.sparsity
    if possible:
        assert int((~found).sum()) == pattern.zeros_asked(8, zeros / 8)
        assert cost(weight, found) == pytest.approx(best, rel=1e-5, abs=1e-6)


@given(
    text=st.sampled_from(PATTERNS),
    shares=st.lists(st.floats(0, 1), min_size=1, max_size=4),
    seed=st.integers(0, 2**16),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
    levels=st.sampled_from([3, 10**6]),
)
def test_events_are_nested_and_exact_and_the_last_has_the_pattern(text, shares, seed, dtype, levels):
    pattern, generator = Pattern.parse(text), torch.Generator().manual_seed(seed)
    mask = torch.ones(8, 16, dtype=torch.bool)
    most = 0.95 if pattern.sparsity is None else pattern.sparsity
    for share in [*sorted(shares), 1.0]:
        drawn = torch.randint(-levels, levels, (8, 16), generator=generator)  # few levels: many ties
        weight = (drawn / levels).to(dtype)
        after = project(weight, mask, share * most, pattern)
        assert int((~after).sum()) == pattern.zeros_asked(mask.numel(), share * most)
        assert bool((after <= mask).all())
        mask = after
    assert pattern.holds(mask)


def test_what_does_not_hold():
    assert not Pattern.parse("2:4").holds(torch.tensor([[True, True, True, False, False, False, False, True]]))
    assert not Pattern.parse("2:4").holds(torch.tensor([[True, False, False, False]]))  # one more zero helps nobody
    assert not Pattern.parse("2x1").holds(torch.tensor([[True, False], [True, True]]))
    assert not Pattern.parse("2:4").divides((4, 6))
    assert not Pattern.parse("4x2").divides((6, 4))


@pytest.mark.parametrize("text", ["", "4:2", "4:4", "0:4", "2:4:8", "x4", "0x4", "4*4", "none", "124"])
def test_what_is_no_pattern(text: str) -> None:
    with pytest.raises(ValueError, match=r"must be single, n:m with n below m, such as 2:4, or blocks RxC"):
        Pattern.parse(text)
