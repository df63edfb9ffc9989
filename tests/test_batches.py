"""Batches: every example once, alike in length, the same for the same arguments; padding changes nothing."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModel, AutoTokenizer

from spd_ray.config.trial import TaskConfig
from spd_ray.data import batches as data
from spd_ray.data.batches import (
    POOL_BATCHES,
    DeviceSplit,
    EncodedTask,
    Padding,
    collate,
    encode,
    encode_task,
    epoch_batches,
    eval_batches,
)
from spd_ray.data.examples import Examples, TaskData
from spd_ray.data.tasks import TASKS

LENGTHS = st.lists(st.integers(1, 128), min_size=1, max_size=400).map(np.array)
BATCH_SIZES = st.integers(1, 9)
PAIRS = Examples(
    ["red cat", "red cat runs well", "dog"], ["runs", "blue dog", "very very well"], np.array([0, 1, 0], np.int64)
)
CLS, SEP, RED, BLUE, CAT, DOG, RUNS, WELL, VERY = 2, 3, 5, 7, 8, 9, 11, 13, 14  # ids in the tiny vocabulary


@pytest.fixture(scope="module")
def encoded(tiny_bert: Path) -> EncodedTask:
    return encode_task(
        TaskData(TASKS["rte"], PAIRS, PAIRS, "f"),
        AutoTokenizer.from_pretrained(tiny_bert),
        TaskConfig(name="rte", max_length=32),
    )


def padding_share(lengths: np.ndarray, batches: list[np.ndarray]) -> float:
    """Padding tokens over all tokens of the padded batches."""
    return 1 - lengths.sum() / sum(len(batch) * lengths[batch].max() for batch in batches)


@given(LENGTHS, BATCH_SIZES, st.integers(0, 2**31), st.integers(0, 1000))
def test_an_epoch_has_each_example_once(lengths: np.ndarray, batch_size: int, seed: int, epoch: int) -> None:
    batches = epoch_batches(lengths, batch_size, seed, epoch)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    assert len(batches) == math.ceil(len(lengths) / batch_size)
    assert sum(len(batch) != batch_size for batch in batches) <= 1


@given(LENGTHS, BATCH_SIZES, st.integers(0, 2**31), st.integers(0, 1000))
def test_an_epoch_is_a_function_of_its_arguments(lengths: np.ndarray, batch_size: int, seed: int, epoch: int) -> None:
    np.random.seed(epoch)  # what others draw changes nothing
    first = epoch_batches(lengths, batch_size, seed, epoch)
    np.random.seed(epoch + 1)
    second = epoch_batches(lengths.copy(), batch_size, seed, epoch)
    assert [batch.tolist() for batch in first] == [batch.tolist() for batch in second]


def test_epochs_and_seeds_differ() -> None:
    lengths = np.arange(100) % 7 + 3
    orders = {tuple(np.concatenate(epoch_batches(lengths, 4, seed, epoch))) for seed in (0, 1) for epoch in (0, 1, 2)}
    assert len(orders) == 6


@settings(deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([16, 32]))
def test_batches_by_length_hold_little_padding(seed: int, batch_size: int) -> None:
    lengths = np.random.default_rng(seed).integers(5, 128, size=POOL_BATCHES * batch_size)
    order = np.random.default_rng(seed + 1).permutation(len(lengths))
    plain = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    assert padding_share(lengths, epoch_batches(lengths, batch_size, seed, 0)) < padding_share(lengths, plain) / 10


def test_lengths_do_not_come_in_order() -> None:
    """Short batches first would be a curriculum."""
    lengths = np.arange(5, 105).repeat(4)
    longest = [int(lengths[batch].max()) for batch in epoch_batches(lengths, 4, 0, 0)]
    assert abs(np.corrcoef(longest, np.arange(len(longest)))[0, 1]) < 0.4


@given(LENGTHS, BATCH_SIZES)
def test_evaluation_batches_are_sorted(lengths: np.ndarray, batch_size: int) -> None:
    batches = eval_batches(lengths, batch_size)
    order = np.concatenate(batches)
    assert sorted(order.tolist()) == list(range(len(lengths)))
    assert (np.diff(lengths[order]) >= 0).all()
    assert len(batches) == math.ceil(len(lengths) / batch_size)


def test_collate_by_hand(encoded: EncodedTask) -> None:
    """[CLS] a [SEP] b [SEP], padded to the longer of the two."""
    batch = collate(encoded.train, np.array([2, 0]), "cpu")
    assert batch["input_ids"].tolist() == [
        [CLS, DOG, SEP, VERY, VERY, WELL, SEP],
        [CLS, RED, CAT, SEP, RUNS, SEP, 0],
    ]
    assert batch["token_type_ids"].tolist() == [[0, 0, 0, 1, 1, 1, 1], [0, 0, 0, 0, 1, 1, 0]]
    assert batch["attention_mask"].tolist() == [[1] * 7, [1] * 6 + [0]]
    assert batch["labels"].tolist() == [0, 0]
    assert {tensor.dtype for tensor in batch.values()} == {torch.int64}


def test_lengths_and_subset(encoded: EncodedTask) -> None:
    assert encoded.train.lengths.tolist() == [6, 9, 7]
    part = encoded.train.subset(np.array([1, 0]))
    assert len(part) == 2
    assert part.lengths.tolist() == [9, 6]
    for name, tensor in collate(part, np.array([0, 1]), "cpu").items():
        assert torch.equal(tensor, collate(encoded.train, np.array([1, 0]), "cpu")[name])


def test_long_inputs_lose_the_end_of_their_longer_text(tiny_bert: Path) -> None:
    split = encode(PAIRS, AutoTokenizer.from_pretrained(tiny_bert), max_length=8)
    assert split.lengths.tolist() == [6, 8, 7]
    assert split.input_ids[1].tolist() == [CLS, RED, CAT, RUNS, SEP, BLUE, DOG, SEP]


def test_texts_are_tokenised_in_parts_without_a_seam(tiny_bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    whole = encode(PAIRS, tokenizer, 32)
    monkeypatch.setattr(data, "TOKENIZED_AT_ONCE", 2)
    in_parts = encode(PAIRS, tokenizer, 32)
    assert torch.equal(whole.input_ids, in_parts.input_ids)
    assert torch.equal(whole.token_type_ids, in_parts.token_type_ids)


def test_regression_labels_are_real_numbers(tiny_bert: Path) -> None:
    examples = Examples(["cat", "dog"], None, np.array([0.5, 4.0], np.float32))
    split = encode(examples, AutoTokenizer.from_pretrained(tiny_bert), 32)
    batch = collate(split, np.array([1, 0]), "cpu")
    assert batch["labels"].dtype == torch.float32
    assert batch["labels"].tolist() == [4.0, 0.5]


def test_the_batch_an_example_is_in_does_not_change_its_output(tiny_bert: Path, encoded: EncodedTask) -> None:
    model = AutoModel.from_pretrained(tiny_bert).eval()
    outputs = []
    for indices in ([0], [0, 1]):
        batch = collate(encoded.train, np.array(indices), "cpu")
        del batch["labels"]
        outputs.append(model(**batch).last_hidden_state[0, :6])
    torch.testing.assert_close(*outputs)


def test_batches_can_be_padded_to_a_width(encoded: EncodedTask) -> None:
    batch = DeviceSplit.of(encoded.train, "cpu").batch(np.array([0, 2]), padding=Padding(20))
    assert batch.tokens.shape == batch.inputs["input_ids"].shape == (2, 20)
    assert batch.tokens.sum(dim=1).tolist() == encoded.train.lengths[[0, 2]].tolist()
    assert torch.equal(batch.inputs["attention_mask"], batch.tokens)
    assert "labels" not in batch.inputs
    assert batch.labels.tolist() == [0, 0]


def test_a_batch_is_what_collate_makes_of_it_and_has_a_mask_only_where_it_is_padded(encoded: EncodedTask) -> None:
    on_device = DeviceSplit.of(encoded.train, "cpu")
    for indices, padded in (([2, 0], True), ([0], False), ([1, 1], False)):
        batch, expected = on_device.batch(np.array(indices)), collate(encoded.train, np.array(indices), "cpu")
        assert batch.rows.tolist() == indices
        assert torch.equal(batch.tokens, expected.pop("attention_mask").bool())
        assert torch.equal(batch.labels, expected.pop("labels"))
        mask = batch.inputs.pop("attention_mask")
        assert (mask is not None) == padded
        assert batch.inputs.keys() == expected.keys()
        assert all(torch.equal(batch.inputs[name], expected[name]) for name in expected)
