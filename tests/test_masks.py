import torch
from hypothesis import given
from hypothesis import strategies as st

from spd_ray.equations.masks import magnitude_mask, zeros_asked


def kept_all(weight):
    return torch.ones_like(weight, dtype=torch.bool)


def test_the_smallest_magnitudes_go():
    weight = torch.tensor([[0.1, -0.5, 0.3], [-0.2, 0.05, 0.4]])
    mask = magnitude_mask(weight, kept_all(weight), 0.5)
    assert mask.tolist() == [[False, True, True], [False, False, True]]


def test_ties_keep_exactly_k_the_earlier_first():
    weight = torch.tensor([0.5, -0.5, 0.5, 0.5])
    assert magnitude_mask(weight, kept_all(weight), 0.5).tolist() == [True, True, False, False]


def test_a_pruned_weight_never_comes_back_however_large():
    weight = torch.tensor([9.0, 0.1, 0.2, 0.3])
    mask = torch.tensor([False, True, True, True])
    assert magnitude_mask(weight, mask, 0.5).tolist() == [False, False, True, True]


def test_a_lower_sparsity_than_reached_changes_nothing():
    weight = torch.arange(4.0)
    mask = torch.tensor([False, False, True, True])
    assert magnitude_mask(weight, mask, 0.25) is mask


@given(
    numel=st.integers(1, 400),
    sparsities=st.lists(st.floats(0, 0.999), min_size=1, max_size=5),
    seed=st.integers(0, 2**16),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
)
def test_masks_are_nested_and_exact(numel, sparsities, seed, dtype):
    generator = torch.Generator().manual_seed(seed)
    mask = torch.ones(numel, dtype=torch.bool)
    for sparsity in sorted(sparsities):
        weight = torch.randn(numel, generator=generator).to(dtype)
        nested = magnitude_mask(weight, mask, sparsity)
        assert int((~nested).sum()) == zeros_asked(numel, sparsity)
        assert bool((nested <= mask).all())
        kept, dropped = weight[nested].abs(), weight[mask & ~nested].abs()
        if len(kept) and len(dropped):
            assert kept.min() >= dropped.max()
        mask = nested


def test_zeros_asked_by_hand():
    assert [zeros_asked(196_608, s) for s in (0.0, 0.5, 0.9, 0.95)] == [0, 98_304, 176_947, 186_778]
