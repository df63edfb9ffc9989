"""Fixtures shared by the tests: a tiny random BERT and a tiny task, both as files."""

import itertools
import random
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertModel, BertTokenizer

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = ["red", "green", "blue", "cat", "dog", "bird", "runs", "sleeps", "well", "very"]


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A transformers directory: 2 layers of 32, random weights, a vocabulary of whole words."""
    folder = tmp_path_factory.mktemp("tiny_bert")
    vocabulary = {token: index for index, token in enumerate([*SPECIAL, *WORDS])}
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=32,
        initializer_range=0.1,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        BertModel(config).save_pretrained(folder)
    BertTokenizer(vocab=vocabulary, do_lower_case=True, model_max_length=32).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_sst2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SST-2's files, 60 training and 30 dev sentences; positive where a cat is in, which is learnt in seconds."""
    folder = tmp_path_factory.mktemp("tiny_sst2")
    endings = ("", " well", " very well", " very very well", " very very very well")
    rows = [
        f"{colour} {animal} {verb}{ending}\t{int(animal == 'cat')}\n"
        for colour, animal, verb, ending in itertools.product(WORDS[:3], WORDS[3:6], WORDS[6:8], endings)
    ]
    random.Random(0).shuffle(rows)
    for name, part in (("train", rows[:60]), ("dev", rows[60:])):
        (folder / f"{name}.tsv").write_text("sentence\tlabel\n" + "".join(part))
    return folder
