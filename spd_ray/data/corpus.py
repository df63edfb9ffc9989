"""Text to pretrain on: documents as rows of token ids, and a WordPiece tokenizer made from them.

Shapes: N rows, L tokens in the longest row.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tokenizers.implementations import BertWordPieceTokenizer
from transformers import BertTokenizer

from spd_ray.base.errors import UserError


class Rows(NamedTuple):
    """Token ids and segment numbers (N, L), padded with 0 on the right, and labels of NSP (N,)."""

    ids: np.ndarray
    types: np.ndarray
    labels: np.ndarray


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
