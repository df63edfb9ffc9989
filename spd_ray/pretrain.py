"""Pretrain a small BERT: masked language modelling (MLM), and next-sentence prediction (NSP) where pairs are given.

One loop for both the miniature and `python -m spd_ray.pretrain`, which pretrains on any plain text.

Shapes: B rows in a batch, L tokens in a row, V tokens in the vocabulary, H hidden units.
"""

import argparse
import itertools
import math
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, NoReturn

import numpy as np
import torch
from tokenizers.implementations import BertWordPieceTokenizer
from torch import nn
from torch.nn import functional
from transformers import BertConfig, BertModel, BertTokenizer

from spd_ray.errors import UserError, run_main
from spd_ray.progress import progress_bar

PAD = 0


class Rows(NamedTuple):
    """Token ids and segment numbers (N, L), padded with 0 on the right, and labels of NSP (N,)."""

    ids: np.ndarray
    types: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Masking:
    """How MLM hides tokens: a chosen token becomes `mask_id`, stays (`kept`), or becomes a random one of `words`."""

    rates: np.ndarray  # (V,) probability that a token is chosen; 0 for special tokens
    words: np.ndarray  # ids
    mask_id: int
    kept: float = 0.1
    random: float = 0.1


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The optimization. The rate rises linearly over `warmup_steps`, then falls linearly to 0 at `steps`."""

    steps: int
    batch_size: int
    learning_rate: float
    warmup_steps: int
    mlm_only_steps: int = 0  # before the pairs join
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
    ids: np.ndarray, masking: Masking, scales: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, ...]:
    """Hide tokens of `ids` (B, L): the ids to read (B, L) and which were chosen (B, L) bool.

    A token is chosen with its rate times its row's scale, `scales` (B, 1). At least one of the batch is.
    """
    rates = masking.rates[ids] * scales
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

    Joint batches hide tokens of a document with 2/3, of a pair with 1/3 of the rates; the two losses are added.
    """
    rng = np.random.default_rng(plan.seed)
    optimizer = _optimizer(model, plan)
    document_order = _endless(len(documents.ids), rng)
    pair_order = _endless(len(pairs.ids), rng) if pairs else iter(())
    model.train()
    with progress_bar("pretraining", plan.steps) as advance:
        running = 0.0
        for step in range(plan.steps):
            pair_count = plan.batch_size // 2 if pairs and step >= plan.mlm_only_steps else 0
            batch = _take(documents, document_order, plan.batch_size - pair_count)
            scales = np.ones((plan.batch_size, 1))
            if pairs and pair_count:
                batch = Rows(*map(np.concatenate, zip(batch, _take(pairs, pair_order, pair_count), strict=True)))
                scales = np.repeat((2 / 3, 1 / 3), (plan.batch_size - pair_count, pair_count))[:, None]
            loss = _loss(model, batch, pair_count, masking, scales, rng)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), plan.clip_norm)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, plan)
            optimizer.step()
            optimizer.zero_grad()
            running += (loss.item() - running) * max(0.01, 1 / (step + 1))
            advance(note=f"loss {running:.3f}")
    model.eval()


def _optimizer(model: PretrainingModel, plan: Plan) -> torch.optim.Optimizer:
    parameters = list(model.parameters())
    matrices = [parameter for parameter in parameters if parameter.ndim == 2]
    others = [parameter for parameter in parameters if parameter.ndim != 2]
    groups = [{"params": matrices, "weight_decay": plan.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=plan.learning_rate, betas=plan.betas, fused=True)


def _loss(
    model: PretrainingModel,
    batch: Rows,
    pair_count: int,
    masking: Masking,
    scales: np.ndarray,
    rng: np.random.Generator,
) -> torch.Tensor:
    """The mean MLM loss over the chosen tokens, plus the mean NSP loss of the last `pair_count` rows."""
    length = int((batch.ids != PAD).sum(axis=1).max())
    ids, types = batch.ids[:, :length], batch.types[:, :length]
    read, chosen = mask_tokens(ids, masking, scales, rng)
    output = model.bert(
        input_ids=torch.from_numpy(read).long(),
        token_type_ids=torch.from_numpy(types).long(),
        attention_mask=torch.from_numpy(ids != PAD),
    )
    logits = model.token_logits(output.last_hidden_state[torch.from_numpy(chosen)])
    loss = functional.cross_entropy(logits, torch.from_numpy(ids[chosen]).long())
    if pair_count:
        answers = model.next_sentence(output.pooler_output[-pair_count:])
        loss = loss + functional.cross_entropy(answers, torch.from_numpy(batch.labels[-pair_count:]))
    return loss


def read_corpus(files: Sequence[Path]) -> list[str]:
    """The documents of `files`, one a line; of a line of a `.tsv` file, the fields that contain a space, joined.

    Raises UserError for a file that cannot be read or is not UTF-8, and where no file holds a document.
    """
    documents: list[str] = []
    for file in files:
        try:
            lines = file.read_text(encoding="utf-8").split("\n")
        except UnicodeDecodeError as error:
            raise UserError(f"{file}: byte {error.start} is not UTF-8; convert the file to UTF-8 first") from error
        except OSError as error:
            raise UserError(f"{file}: cannot be read ({error.strerror}); --corpus takes text or .tsv files") from error
        if file.suffix == ".tsv":
            lines = [" ".join(field for field in line.split("\t") if " " in field.strip()) for line in lines]
        documents += [line.strip() for line in lines if line.strip()]
    if not documents:
        raise UserError(f"{', '.join(map(str, files))}: no text; --corpus needs one document a line")
    return documents


def train_tokenizer(documents: Sequence[str], vocab_size: int, max_length: int) -> BertTokenizer:
    """A lower-casing WordPiece tokenizer of at most `vocab_size` tokens, more if the characters alone are more."""
    trainer = BertWordPieceTokenizer(lowercase=True)
    trainer.train_from_iterator(iter(documents), vocab_size=vocab_size, show_progress=False)
    return BertTokenizer(vocab=trainer.get_vocab(), do_lower_case=True, model_max_length=max_length)


def encode_documents(documents: Sequence[str], tokenizer: BertTokenizer, max_length: int) -> Rows:
    """One row a document, cut to `max_length` tokens."""
    encoded = tokenizer(list(documents), truncation=True, max_length=max_length)["input_ids"]
    ids = np.zeros((len(encoded), max(map(len, encoded))), dtype=np.int32)
    for row, tokens in enumerate(encoded):
        ids[row, : len(tokens)] = tokens
    return Rows(ids, np.zeros_like(ids), np.zeros(len(ids), dtype=np.int64))


def bert_masking(tokenizer: BertTokenizer) -> Masking:
    """BERT's masking (Devlin et al. 2019, Section 3.1): 15% of the tokens; 80% hidden, 10% kept, 10% random."""
    size = len(tokenizer)
    words = np.setdiff1d(np.arange(size), tokenizer.all_special_ids)
    rates = np.zeros(size)
    rates[words] = 0.15
    return Masking(rates=rates, words=words, mask_id=tokenizer.mask_token_id)


@contextmanager
def new_directory(path: Path) -> Iterator[Path]:
    """A folder beside `path` to write into, renamed to `path` on success and removed on failure.

    Raises UserError where `path` exists and is not an empty directory, or cannot be made.
    """
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise UserError(f"--out {path}: exists and is not an empty directory; name a new one")
    writing = path.parent / f".{path.name}-{os.getpid()}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        writing.mkdir()
    except OSError as error:
        raise UserError(f"--out {path}: cannot be made ({error.strerror})") from error
    try:
        yield writing
        writing.rename(path)
    finally:
        shutil.rmtree(writing, ignore_errors=True)


def pretrain_on_text(arguments: argparse.Namespace) -> None:
    """What the command does with its parsed arguments."""
    documents = read_corpus(arguments.corpus)
    tokenizer = train_tokenizer(documents, arguments.vocab_size, arguments.max_length)
    if len(tokenizer) == len(tokenizer.all_special_ids):
        raise UserError(f"{', '.join(map(str, arguments.corpus))}: no token occurs twice; use a larger corpus")
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=arguments.hidden,
        num_hidden_layers=arguments.layers,
        num_attention_heads=arguments.heads,
        intermediate_size=arguments.intermediate,
        max_position_embeddings=arguments.max_length,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    plan = Plan(
        steps=arguments.steps,
        batch_size=arguments.batch_size,
        learning_rate=arguments.lr,
        warmup_steps=arguments.steps // 10,
        seed=arguments.seed,
    )
    with new_directory(arguments.out) as folder:
        model = new_model(config, arguments.seed, embedding_std=config.initializer_range)
        rows = encode_documents(documents, tokenizer, arguments.max_length)
        pretrain(model, rows, None, bert_masking(tokenizer), plan)
        save(model, tokenizer, folder)


def save(model: PretrainingModel, tokenizer: BertTokenizer, folder: Path) -> None:
    """Write a plain transformers directory: the BERT with its pooler, without the heads, and the tokenizer."""
    model.bert.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (see --help)")


def _at_least(minimum: int) -> Callable[[str], int]:
    def whole_number(text: str) -> int:
        value = int(text)
        if value < minimum:
            raise argparse.ArgumentTypeError(f"{value} is less than {minimum}")
        return value

    return whole_number


def _rate(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m spd_ray.pretrain", description="Pretrain a small BERT by MLM on plain text.")
    parser.add_argument(
        "--corpus", type=Path, nargs="+", required=True, help="UTF-8 text, one document a line, or .tsv"
    )
    parser.add_argument("--out", type=Path, required=True, help="the new transformers directory")
    counts = {
        "vocab-size": (8_000, 6, "tokens of the WordPiece vocabulary, at most"),
        "layers": (4, 1, "encoder layers"),
        "hidden": (128, 1, "hidden units; a multiple of --heads"),
        "heads": (4, 1, "attention heads"),
        "intermediate": (512, 1, "units of the feed-forward layers"),
        "steps": (5_000, 1, "optimizer steps; a tenth of them warm up"),
        "batch-size": (32, 1, "documents in a step"),
        "max-length": (128, 3, "tokens; longer documents are cut"),
        "seed": (0, 0, "of the initialization, the order and the masks"),
        "threads": (1, 1, "CPU threads"),
    }
    for name, (default, minimum, text) in counts.items():
        parser.add_argument(f"--{name}", type=_at_least(minimum), default=default, help=f"{text} ({default})")
    parser.add_argument("--lr", type=_rate, default=1e-3, help="the highest learning rate (0.001)")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """`python -m spd_ray.pretrain`. Raises UserError for arguments and files that cannot be used."""
    arguments = _parser().parse_args(argv)
    if arguments.hidden % arguments.heads:
        raise UserError(f"--hidden {arguments.hidden}: must be a multiple of --heads {arguments.heads}")
    torch.set_num_threads(arguments.threads)
    pretrain_on_text(arguments)


if __name__ == "__main__":
    run_main(main)
