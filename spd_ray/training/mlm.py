"""Pretraining: masked language modelling (MLM), and next-sentence prediction (NSP) where there are pairs.

Shapes: B rows in a batch, L tokens in a row, M chosen tokens, V tokens in the vocabulary, H hidden units.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from transformers import BertConfig, BertModel, BertTokenizer

from spd_ray.base.progress import progress_bar, quiet_transformers
from spd_ray.data.corpus import Rows

PAD = 0


@dataclass(frozen=True, kw_only=True)
class Masking:
    """How MLM hides tokens: a chosen token becomes `mask_id`, stays (`kept`), or becomes a random one of `words`."""

    rates: np.ndarray  # (V,) probability that a token is chosen; 0 for special tokens
    words: np.ndarray  # ids
    mask_id: int
    kept: float = 0.1
    random: float = 0.1


def bert_masking(tokenizer: BertTokenizer) -> Masking:
    """BERT's masking (Devlin et al. 2019, Section 3.1): 15% of the tokens; 80% hidden, 10% kept, 10% random."""
    size = len(tokenizer)
    words = np.setdiff1d(np.arange(size), tokenizer.all_special_ids)
    rates = np.zeros(size)
    rates[words] = 0.15
    return Masking(rates=rates, words=words, mask_id=tokenizer.mask_token_id)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The optimization. The rate rises linearly over `warmup_steps`, then falls linearly to 0 at `steps`."""

    steps: int
    batch_size: int
    learning_rate: float
    warmup_steps: int
    mlm_only_steps: int = 0  # before the pairs join
    joint_masking: float = 1.0  # factor of the masking rates once they have joined
    pair_weight: float = 1.0  # of the NSP loss beside the MLM loss
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.01  # on matrices
    clip_norm: float = 1.0
    seed: int = 0


class PretrainingModel(nn.Module):
    """A BERT with a tied MLM head, `LayerNorm(h) E^T + b`, and an NSP head on its pooler."""

    def __init__(self, bert: BertModel) -> None:
        super().__init__()
        self.bert = bert
        self.norm = nn.LayerNorm(bert.config.hidden_size)
        self.bias = nn.Parameter(torch.zeros(bert.config.vocab_size))
        self.next_sentence = nn.Linear(bert.config.hidden_size, 2)

    def token_logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """(M, H) -> (M, V)."""
        embeddings = self.bert.embeddings.word_embeddings.weight
        return functional.linear(self.norm(hidden), embeddings, self.bias)


def new_model(config: BertConfig, seed: int, embedding_std: float) -> PretrainingModel:
    """A randomly initialized model; linear layers by `config.initializer_range`, embeddings by `embedding_std`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = PretrainingModel(BertModel(config))
        for module in model.bert.embeddings.modules():
            if isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=embedding_std)
        nn.init.normal_(model.next_sentence.weight, std=config.initializer_range)
        nn.init.zeros_(model.next_sentence.bias)
    return model


def mask_tokens(
    ids: np.ndarray, masking: Masking, scale: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Hide tokens of `ids` (B, L): the ids to read (B, L) and which were chosen (B, L) bool.

    A token is chosen with its rate times `scale`. At least one of the batch is.
    """
    rates = masking.rates[ids] * scale
    nearness = np.divide(rng.random(ids.shape), rates, out=np.full(ids.shape, np.inf), where=rates > 0)
    chosen = nearness < max(1.0, nearness.min() * (1 + 1e-9))
    fate = rng.random(ids.shape)
    random_words = rng.choice(masking.words, ids.shape)
    hidden = np.where(fate < masking.random, random_words, masking.mask_id)
    hidden = np.where(fate >= 1 - masking.kept, ids, hidden)
    return np.where(chosen, hidden, ids), chosen


def learning_rate(step: int, plan: Plan) -> float:
    """The rate of `step` in [0, steps).

    >>> plan = Plan(steps=6, batch_size=1, learning_rate=4.0, warmup_steps=2)
    >>> [learning_rate(step, plan) for step in range(6)]
    [2.0, 4.0, 4.0, 3.0, 2.0, 1.0]
    """
    if step < plan.warmup_steps:
        return plan.learning_rate * (step + 1) / plan.warmup_steps
    return plan.learning_rate * (plan.steps - step) / (plan.steps - plan.warmup_steps)


def _endless(size: int, rng: np.random.Generator) -> Iterator[int]:
    """The indices below `size` in a new order each time round."""
    while True:
        yield from rng.permutation(size).tolist()


def _take(rows: Rows, order: Iterator[int], count: int) -> Rows:
    indices = list(itertools.islice(order, count))
    return Rows(*(column[indices] for column in rows))


def pretrain(model: PretrainingModel, documents: Rows, pairs: Rows | None, masking: Masking, plan: Plan) -> None:
    """Train `model` in place by MLM on `documents`; where there are `pairs`, later on half a batch of each.

    Pairs are read unmasked: NSP must compare every token of the two segments.
    """
    rng = np.random.default_rng(plan.seed)
    optimizer = _optimizer(model, plan)
    document_order = _endless(len(documents.ids), rng)
    pair_order = _endless(len(pairs.ids), rng) if pairs else iter(())
    model.train()
    with progress_bar("pretraining", plan.steps) as advance:
        running = 0.0
        for step in range(plan.steps):
            joint = pairs is not None and step >= plan.mlm_only_steps
            pair_count = plan.batch_size // 2 if joint else 0
            batch = _take(documents, document_order, plan.batch_size - pair_count)
            read, chosen = mask_tokens(batch.ids, masking, plan.joint_masking if joint else 1.0, rng)
            if pairs is not None and joint:
                more = _take(pairs, pair_order, pair_count)
                batch = Rows(*(np.concatenate(columns) for columns in zip(batch, more, strict=True)))
                read = np.concatenate((read, more.ids))
            mlm_loss, nsp_loss = _losses(model, batch, read, chosen)
            (mlm_loss + plan.pair_weight * nsp_loss).backward()
            nn.utils.clip_grad_norm_(model.parameters(), plan.clip_norm)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, plan)
            optimizer.step()
            optimizer.zero_grad()
            running += ((mlm_loss + nsp_loss).item() - running) * max(0.01, 1 / (step + 1))
            advance(note=f"loss {running:.3f}")
    model.eval()


def _optimizer(model: PretrainingModel, plan: Plan) -> torch.optim.Optimizer:
    parameters = list(model.parameters())
    matrices = [parameter for parameter in parameters if parameter.ndim == 2]
    others = [parameter for parameter in parameters if parameter.ndim != 2]
    groups = [{"params": matrices, "weight_decay": plan.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=plan.learning_rate, betas=plan.betas, fused=True)


def _losses(
    model: PretrainingModel, batch: Rows, read: np.ndarray, chosen: np.ndarray
) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean MLM loss over the `chosen` tokens (D, L) of the first D rows, and the mean NSP loss of the others.

    `read` (B, L) is what the model sees of `batch`. The NSP loss of no rows is 0.
    """
    documents = len(chosen)
    length = int((batch.ids != PAD).sum(axis=1).max())
    ids, chosen = batch.ids[:, :length], chosen[:, :length]
    output = model.bert(
        input_ids=torch.from_numpy(read[:, :length]).long(),
        token_type_ids=torch.from_numpy(batch.types[:, :length]).long(),
        attention_mask=torch.from_numpy(ids != PAD),
    )
    logits = model.token_logits(output.last_hidden_state[:documents][torch.from_numpy(chosen)])
    mlm_loss = functional.cross_entropy(logits, torch.from_numpy(ids[:documents][chosen]).long())
    answers = model.next_sentence(output.pooler_output[documents:])
    labels = torch.from_numpy(batch.labels[documents:])
    return mlm_loss, functional.cross_entropy(answers, labels, reduction="sum") / max(1, len(labels))


def save(model: PretrainingModel, tokenizer: BertTokenizer, folder: Path) -> None:
    """Write a plain transformers directory: the BERT with its pooler, without the heads, and the tokenizer."""
    with quiet_transformers():
        model.bert.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
