"""How a batch is shared by ranks: nothing is lost, and the mean over ranks is the batch's."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spd_ray.config.method import ObjectiveConfig
from spd_ray.data.batches import LONGEST, DeviceSplit, EncodedSplit, Shares
from spd_ray.equations.loss_terms import LOSS_TERMS
from spd_ray.model.objective import terms
from tests.test_objective import model


@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=20), ranks=st.integers(1, 4))
def test_each_example_is_computed_by_one_rank_and_the_shares_add_up(lengths: list[int], ranks: int) -> None:
    sizes = np.array(lengths)
    ids = torch.ones(len(sizes), int(sizes.max()), dtype=torch.int32)
    split = EncodedSplit(ids, None, torch.zeros(len(sizes), dtype=torch.int64), sizes)
    indices = np.random.default_rng(0).permutation(len(sizes))
    on_device = DeviceSplit.of(split, "cpu")
    rows = on_device.rows_of(indices)
    parts = [on_device.part(indices, rows, rank, ranks, LONGEST) for rank in range(ranks)]
    counted = [index for part in parts if part.shares.examples > 0 for index in part.rows.tolist()]
    assert sorted(counted) == sorted(indices)
    assert {part.real_tokens for part in parts} == {int(sizes.sum())}
    for kind in Shares._fields:
        assert np.mean([getattr(part.shares, kind) for part in parts]) == pytest.approx(1.0)
    # the mean of a token-wise quantity (here the length itself) over all tokens, from the ranks' own means
    own = [(sizes[part.rows] ** 2).sum() / sizes[part.rows].sum() for part in parts]
    whole = (sizes**2).sum() / sizes.sum()
    assert np.mean([mean * part.shares.tokens for mean, part in zip(own, parts, strict=True)]) == pytest.approx(whole)


def test_each_term_is_multiplied_by_the_share_of_what_it_is_a_mean_of() -> None:
    objective = ObjectiveConfig(task=1, cosine=1)
    tokens, labels = torch.ones(1, 3, dtype=torch.bool), torch.tensor([1])
    student, teacher = model(1.0), model(2.0)
    alone = terms(objective, student, teacher, labels, tokens)
    shared = terms(objective, student, teacher, labels, tokens, Shares(examples=2.0, tokens=3.0, pairs=5.0))
    factors = {"examples": 2.0, "tokens": 3.0, "pairs": 5.0}
    for name, value in alone.items():
        assert shared[name].item() == pytest.approx(value.item() * factors[LOSS_TERMS[name].counted_by])
    assert shared["attention"].item() == pytest.approx(5 * alone["attention"].item())
