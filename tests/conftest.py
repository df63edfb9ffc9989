"""Fixtures shared by the tests: a tiny random BERT and a tiny task, both as files."""

import itertools
import os
import random
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from hypothesis import settings
from transformers import BertConfig, BertModel, BertTokenizer

from spd_ray.config.trial import ModelConfig, TaskConfig, TeacherConfig
from spd_ray.training.teacher import Teacher, load_teacher

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = ["red", "green", "blue", "cat", "dog", "bird", "runs", "sleeps", "well", "very"]

# Of this process and of all that it starts: tiny products gain nothing by a second thread, and lose much by waiting for
# it while another process has the core.
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"

# Of an MLflow server: seven processes of three seconds' imports each, for jobs that nothing here asks for.
os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"

# A slow machine, or one that does something else too, breaks nothing that these tests are about.
settings.register_profile("spd_ray", deadline=None)
settings.load_profile("spd_ray")


@pytest.hookimpl(tryfirst=True)  # before xdist reads the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What `make test` gives to one process together: all faults, else a file, which share what they have built."""
    for item in items:
        faults = item.path.parent.name == "faults"
        item.add_marker(pytest.mark.xdist_group("faults" if faults else item.path.name))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="faults in full number, as `make faults` has them")


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A transformers directory: 2 layers of 32, random weights, a vocabulary of whole words."""
    return save_bert(tmp_path_factory.mktemp("tiny_bert"), hidden_size=32)


def save_bert(folder: Path, hidden_size: int) -> Path:
    """Write a random BERT of 2 layers into `folder`; its vocabulary is that of `tiny_sst2`."""
    vocabulary = {token: index for index, token in enumerate([*SPECIAL, *WORDS])}
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=hidden_size,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=2 * hidden_size,
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


class TinyTeacher(NamedTuple):
    """A teacher and what it was made from."""

    configs: tuple[TaskConfig, ModelConfig, TeacherConfig]
    teacher: Teacher


@pytest.fixture(scope="session")
def tiny_teacher(tiny_bert: Path, tiny_sst2: Path) -> TinyTeacher:
    """`tiny_bert` fine-tuned on `tiny_sst2`, in a second."""
    configs = (
        TaskConfig(name="sst2", path=str(tiny_sst2), max_length=32),
        ModelConfig(path=str(tiny_bert)),
        TeacherConfig(epochs=6, batch_size=8, learning_rates=(2e-3,), gate=False),
    )
    return TinyTeacher(configs, load_teacher(*configs))
