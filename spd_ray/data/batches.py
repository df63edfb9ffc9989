"""Tokenised examples, and batches of examples of like length.

Shapes: N examples, B rows in a batch, L tokens in the batch's longest row, W tokens in the split's longest.

Why so: docs/decisions.md #batches-of-like-length, #compiled-layers, #ranks-share-a-batch.
"""

import math
import sys
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from spd_ray.base.cache import content_key
from spd_ray.base.errors import UserError
from spd_ray.config.trial import TaskConfig, TrialConfig
from spd_ray.data.examples import Examples, Task, TaskData

POOL_BATCHES = 50  # examples are sorted by length within pools of this many batches
HOLDOUT_SEED = 0  # of `selection: holdout`: every sweep holds out the same examples
COMPILED_WIDTHS = 16  # and multiples of it: a GPU's tensor cores read aligned rows
TOKENIZED_AT_ONCE = 10_000  # texts in one call of the tokenizer


@dataclass(frozen=True)
class EncodedSplit:
    """N examples as token ids, padded on the right to the split's longest.

    `token_type_ids` is None where the tokenizer makes none (RoBERTa).
    """

    input_ids: Tensor  # (N, W) int32
    token_type_ids: Tensor | None  # (N, W) uint8
    labels: Tensor  # (N,) int64, or float32 for regression
    lengths: np.ndarray  # (N,) int64, tokens without padding
    pad_id: int = 0

    def __len__(self) -> int:
        return len(self.lengths)

    def subset(self, indices: np.ndarray) -> "EncodedSplit":
        """The examples at `indices`, in that order."""
        types = None if self.token_type_ids is None else self.token_type_ids[indices]
        return replace(
            self,
            input_ids=self.input_ids[indices],
            token_type_ids=types,
            labels=self.labels[indices],
            lengths=self.lengths[indices],
        )


@dataclass(frozen=True)
class EncodedTask:
    """A task with its tokenised examples. `fingerprint` is that of its texts and labels (`TaskData`) and of the split.

    Everything is chosen on `chooser`: dev, or examples held out of the training set (then dev is scored once).
    """

    task: Task
    train: EncodedSplit
    dev: EncodedSplit
    fingerprint: str
    holdout: EncodedSplit | None = None

    @property
    def chooser(self) -> EncodedSplit:
        """The split that learning rates, students and configurations are chosen on."""
        return self.dev if self.holdout is None else self.holdout

    @property
    def selection(self) -> str:
        """What `chooser` is called in records: "dev" or "holdout"."""
        return "dev" if self.holdout is None else "holdout"


def encode_task(data: TaskData, tokenizer: PreTrainedTokenizerBase, config: TaskConfig) -> EncodedTask:
    """Tokenise `data`; an input of more than `max_length` tokens loses tokens at the end of its longer text.

    Raises UserError where the holdout fraction leaves no example on one side.
    """
    train, dev = (encode(examples, tokenizer, config.max_length) for examples in (data.train, data.dev))
    if config.selection == "dev":
        return EncodedTask(data.task, train, dev, data.fingerprint)
    order = np.random.default_rng(HOLDOUT_SEED).permutation(len(train))
    size = round(config.holdout_fraction * len(train))
    if not 0 < size < len(train):
        raise UserError(
            f"task.holdout_fraction: {config.holdout_fraction:g} of {len(train)} training examples is {size}; "
            f"both sides need at least one"
        )
    fingerprint = content_key({"data": data.fingerprint, "held out": config.holdout_fraction})
    held_out, kept = np.sort(order[:size]), np.sort(order[size:])
    return EncodedTask(data.task, train.subset(kept), dev, fingerprint, train.subset(held_out))


def encode(examples: Examples, tokenizer: PreTrainedTokenizerBase, max_length: int) -> EncodedSplit:
    """Tokenise one split."""
    ids: list[list[int]] = []
    types: list[list[int]] = []
    for start in range(0, len(examples.text_a), TOKENIZED_AT_ONCE):
        part = slice(start, start + TOKENIZED_AT_ONCE)
        texts = [column[part] for column in (examples.text_a, examples.text_b) if column is not None]
        encoded = tokenizer(*texts, truncation=True, max_length=max_length, return_attention_mask=False)
        ids += encoded["input_ids"]
        types += encoded.get("token_type_ids", [])
    lengths = np.fromiter(map(len, ids), np.int64, len(ids))
    return EncodedSplit(
        _padded(ids, lengths, tokenizer.pad_token_id or 0, torch.int32),
        _padded(types, lengths, 0, torch.uint8) if types else None,
        torch.as_tensor(examples.labels),
        lengths,
        tokenizer.pad_token_id or 0,
    )


def _padded(rows: list[list[int]], lengths: np.ndarray, fill: int, dtype: torch.dtype) -> Tensor:
    width = int(lengths.max())
    table = torch.full((len(rows), width), fill, dtype=dtype)
    real = torch.arange(width) < torch.from_numpy(lengths)[:, None]
    table[real] = torch.tensor([token for row in rows for token in row], dtype=dtype)
    return table


def epoch_batches(lengths: np.ndarray, batch_size: int, seed: int, epoch: int) -> list[np.ndarray]:
    """The batches of one epoch, as indices of examples: a pure function of its arguments.

    The examples are shuffled, sorted by length within pools of POOL_BATCHES batches, and cut; then the batches are
    shuffled. Each example comes once, in ceil(N / batch_size) batches of which at most one is short.
    """
    random = np.random.default_rng((seed, epoch))
    order = random.permutation(len(lengths))
    pools = _cut(order, POOL_BATCHES * batch_size)
    batches = [batch for pool in pools for batch in _cut(_by_length(pool, lengths), batch_size)]
    return [batches[i] for i in random.permutation(len(batches))]


def eval_batches(lengths: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """All examples, shortest first, in ceil(N / batch_size) batches of indices."""
    return _cut(_by_length(np.arange(len(lengths)), lengths), batch_size)


def _by_length(indices: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    return indices[np.argsort(lengths[indices], kind="stable")]


def _cut(indices: np.ndarray, size: int) -> list[np.ndarray]:
    return [indices[start : start + size] for start in range(0, len(indices), size)]


class Shares(NamedTuple):
    """What the mean over a part of a batch counts in the mean over all parts: its share of the batch times parts."""

    examples: float = 1.0
    tokens: float = 1.0
    pairs: float = 1.0  # of tokens of one example


class Batch(NamedTuple):
    """B examples of L positions."""

    indices: np.ndarray  # (B,) of them in the split, which the host knows
    rows: Tensor  # (B,) the same on the device
    inputs: dict[str, Tensor | None]  # the model's arguments, (B, L) each; the attention mask may be left out
    labels: Tensor  # (B,)
    tokens: Tensor  # (B, L) bool, True for a real token
    real_tokens: int  # of the whole batch, of which this may be a part
    shares: Shares = Shares()


class Padding(NamedTuple):
    """How wide a batch is: as its longest example, rounded up to a `multiple`, but `most` positions at most."""

    multiple: int = 1
    most: int = sys.maxsize
    always_masked: bool = False  # an attention mask also where nothing is padded

    @classmethod
    def of(cls, config: TrialConfig) -> "Padding":
        """How the batches of a trial's steps are padded; those of compiled layers all have a mask."""
        most, compiled = config.task.max_length, config.engine.compile_layers
        multiple = COMPILED_WIDTHS if compiled else 1
        return cls(most if config.task.padding == "max_length" else multiple, most, compiled)

    def width(self, longest: int) -> int:
        """
        >>> [Padding(16, 40).width(longest) for longest in (9, 16, 17, 36)]
        [16, 16, 32, 40]
        """
        return min(math.ceil(longest / self.multiple) * self.multiple, self.most)


LONGEST = Padding()


@dataclass(frozen=True)
class DeviceSplit:
    """A split whose tensors lie on a device: its batches are made there, of what is there.

    What a batch is, the host knows: `indices` (B,) are its examples, and `rows` the same on the device.
    """

    input_ids: Tensor  # these four as in `EncodedSplit`
    token_type_ids: Tensor | None
    labels: Tensor
    lengths: Tensor
    host_lengths: np.ndarray
    pad_id: int

    @classmethod
    def of(cls, split: EncodedSplit, device: torch.device | str) -> "DeviceSplit":
        """A copy of `split` on `device`; on the CPU the split itself."""
        types = None if split.token_type_ids is None else split.token_type_ids.to(device)
        lengths = torch.from_numpy(split.lengths).to(device)
        ids, labels = split.input_ids.to(device), split.labels.to(device)
        return cls(ids, types, labels, lengths, split.lengths, split.pad_id)

    def rows_of(self, indices: np.ndarray) -> Tensor:
        """`indices` on the device: a copy from the host."""
        return torch.from_numpy(indices).to(self.labels.device)

    def batch(self, indices: np.ndarray, rows: Tensor | None = None, padding: Padding = LONGEST) -> Batch:
        """The examples at `indices`."""
        rows = self.rows_of(indices) if rows is None else rows
        lengths = self.host_lengths[indices]
        width = padding.width(int(lengths.max()))
        inputs = self.inputs(rows, width)
        tokens, labels = inputs["attention_mask"], inputs.pop("labels")
        mask = tokens if padding.always_masked or lengths.min() < width else None
        return Batch(indices, rows, {**inputs, "attention_mask": mask}, labels, tokens, int(lengths.sum()))

    def part(self, indices: np.ndarray, rows: Tensor, part: int, parts: int, padding: Padding) -> Batch:
        """What one rank computes at once of the batch `indices`: every `parts`-th example from number `part` on.

        A part for which no example is left computes the first one and counts nothing.
        """
        mine = indices[part::parts]
        lengths, own = self.host_lengths[indices], self.host_lengths[mine]
        counts = ((1.0 * len(mine), len(indices)), (own.sum(), lengths.sum()), ((own**2).sum(), (lengths**2).sum()))
        shares = Shares(*(parts * float(of_part) / float(whole) for of_part, whole in counts))
        chosen = slice(part, None, parts) if len(mine) else slice(1)
        batch = self.batch(indices[chosen], rows[chosen], padding)
        return batch._replace(shares=shares, real_tokens=int(lengths.sum()))

    def inputs(self, rows: Tensor, width: int) -> dict[str, Tensor]:
        """The examples at `rows` as a model's inputs: (B, `width`) tensors, the mask bool, and `labels` (B,)."""
        positions = torch.arange(width, device=rows.device)
        inputs = {
            "input_ids": self._padded(self.input_ids, rows, width, self.pad_id),
            "attention_mask": positions < self.lengths.index_select(0, rows)[:, None],
            "labels": self.labels.index_select(0, rows),
        }
        if self.token_type_ids is not None:
            inputs["token_type_ids"] = self._padded(self.token_type_ids, rows, width, 0)
        return inputs

    @staticmethod
    def _padded(table: Tensor, rows: Tensor, width: int, fill: int) -> Tensor:
        cut = table[:, :width].index_select(0, rows).long()
        missing = width - cut.shape[1]
        return F.pad(cut, (0, missing), value=fill) if missing else cut


def collate(
    split: EncodedSplit, indices: np.ndarray, device: torch.device | str, width: int | None = None
) -> dict[str, Tensor]:
    """The examples at `indices`, from the host, as a model's inputs: (B, L) int64 tensors, and `labels` (B,)."""
    width = int(split.lengths[indices].max()) if width is None else width
    batch = DeviceSplit.of(split, "cpu").inputs(torch.from_numpy(indices), width)
    batch["attention_mask"] = batch["attention_mask"].long()
    return {name: tensor.to(device) for name, tensor in batch.items()}
