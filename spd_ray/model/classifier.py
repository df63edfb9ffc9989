"""A model's files, and the classifier made of them: a new one on the encoder, or the trained one that they hold.

Shapes: C outputs.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import huggingface_hub
import torch
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from spd_ray.base.errors import UserError
from spd_ray.base.progress import quiet_transformers
from spd_ray.data.examples import Task

MODEL_FILES = ["*.json", "*.txt", "*.safetensors", "*.model"]
REQUIRED_FILES = {  # without tokenizer files transformers would load an empty tokenizer
    "config.json": ("config.json",),
    "*.safetensors": ("*.safetensors",),
    "tokenizer (tokenizer.json, vocab.txt, vocab.json or *.model)": ("tokenizer.json", "vocab.*", "*.model"),
}
DROPOUTS = ("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout")  # those a config has are set


@contextmanager
def explain_errors(folder: Path, key: str = "model.path") -> Iterator[None]:
    """Turn what transformers and safetensors raise for a bad model folder into a UserError."""
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise UserError(f"{key}: {folder} cannot be loaded ({type(error).__name__}: {error})") from error


def find_model(section: str, path: str | None, name: str) -> Path:
    """A local transformers directory, else a snapshot from the hub."""
    if path is None:
        try:
            path = huggingface_hub.snapshot_download(name, allow_patterns=MODEL_FILES, ignore_patterns="*/*")
        except Exception as error:  # whatever the HTTP client of the day raises
            raise UserError(
                f"{section}.name: {name} is not available from the hub ({type(error).__name__}: {error}); give `--set "
                f"{section}.path=FOLDER`, a transformers directory, or use search_spaces/demo.yaml, which needs nothing"
            ) from error
    check_model_folder(Path(path), f"{section}.path")
    return Path(path)


def check_model_folder(folder: Path, key: str) -> None:
    """Refuse what is not a transformers directory with a tokenizer; `key` of the space named it."""
    if not folder.is_dir():
        raise UserError(f"{key}: {folder} is not a directory")
    for what, patterns in REQUIRED_FILES.items():
        if not any(any(folder.glob(pattern)) for pattern in patterns):
            raise UserError(f"{key}: {folder} has no {what}; it must be a transformers directory")


def model_files(folder: Path) -> list[Path]:
    """The files that make up a model and its tokenizer."""
    return [file for pattern in MODEL_FILES for file in folder.glob(pattern)]


def load_tokenizer(folder: Path, max_length: int, key: str = "model.path") -> Any:
    """The tokenizer in `folder`, which `key` of the space named.

    Raises UserError if it does not belong to the model there, or `max_length` tokens do not fit the model.
    """
    with explain_errors(folder, key), quiet_transformers():
        tokenizer = AutoTokenizer.from_pretrained(folder)
        config = AutoConfig.from_pretrained(folder)
    if len(tokenizer) > config.vocab_size:
        raise UserError(
            f"{key}: {folder}: the tokenizer has {len(tokenizer)} tokens, the model's vocabulary "
            f"{config.vocab_size}; they belong to different models"
        )
    limits = (tokenizer.model_max_length, getattr(config, "max_position_embeddings", None))
    longest = min((limit for limit in limits if limit and limit > 0), default=max_length)  # XLNet says -1: no limit
    if max_length > longest:
        raise UserError(f"task.max_length: {max_length} tokens, but the model reads at most {longest}")
    return tokenizer


def new_classifier(folder: Path, task: Task, dropout: float, key: str = "model.path") -> Any:
    """The encoder in `folder` under a new classifier for `task`; `key` of the space named it.

    Raises UserError if encoder weights are missing.
    """
    with explain_errors(folder, key), quiet_transformers():
        config = AutoConfig.from_pretrained(folder, num_labels=task.num_labels, **dict.fromkeys(DROPOUTS, dropout))
        set_labels(config, task)
        model, report = AutoModelForSequenceClassification.from_pretrained(
            folder, config=config, dtype=torch.float32, ignore_mismatched_sizes=True, output_loading_info=True
        )
    absent = {*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])}
    absent &= {f"{model.base_model_prefix}.{name}" for name in _encoder_tensors(model.base_model)}
    if absent:
        raise UserError(
            f"{key}: {folder}: {len(absent)} of the encoder's weights are not in its files or have another "
            f"shape than config.json says, first {min(absent)}"
        )
    return model


def _encoder_tensors(encoder: nn.Module) -> set[str]:
    """The names of what a pretrained encoder must bring: all but its pooler, which may be new."""
    pooler = getattr(encoder, "pooler", None)
    replaceable = {f"pooler.{name}" for name in pooler.state_dict()} if isinstance(pooler, nn.Module) else set()
    return set(encoder.state_dict()) - replaceable


def trained_classifier(folder: Path, task: Task) -> Any:
    """The classifier in `folder` as it was trained, with eager attention, its outputs in the order of the task's.

    Raises UserError where weights are missing, or where its classes are not the task's.
    """
    place = f"teacher.path: {folder}"
    with explain_errors(folder, "teacher.path"), quiet_transformers():
        model, report = AutoModelForSequenceClassification.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
        )
    order = order_of_outputs(model.config, task, place)
    if report["missing_keys"]:
        absent = sorted(report["missing_keys"])
        raise UserError(
            f"{place}: {len(absent)} of its weights are not in its files, first {absent[0]}; a fine-tuned classifier "
            f"is needed (a pretrained encoder is model.path)"
        )
    if order != sorted(order):
        _reorder_outputs(model, order, place)
    set_labels(model.config, task)
    return model


def order_of_outputs(config: Any, task: Task, place: str) -> list[int]:
    """For each of the task's labels which output of the model stands for it. Case, spaces and dashes do not count.

    Raises UserError where the labels are others.
    """
    if task.labels is None:
        if config.num_labels != 1:
            raise UserError(f"{place}: has {config.num_labels} outputs, but {task.name} is of numbers: 1 is needed")
        return [0]
    names = [str(config.id2label[index]) for index in range(config.num_labels)]
    plain, wanted = [_plain(name) for name in names], [_plain(label) for label in task.labels]
    if len({*wanted}) < len(wanted):
        plain, wanted = names, list(task.labels)
    if sorted(plain) != sorted(wanted):
        raise UserError(
            f"{place}/config.json: id2label has {_listed(names)}, but the classes of {task.name} are "
            f"{_listed(task.labels)}: give a teacher of these classes, or correct the names in id2label if they are"
        )
    return [plain.index(label) for label in wanted]


def set_labels(config: Any, task: Task) -> None:
    """Write the task's kind and labels into a transformers configuration."""
    config.problem_type = "regression" if task.is_regression else "single_label_classification"
    if task.labels is not None:
        config.id2label = dict(enumerate(task.labels))
        config.label2id = {label: index for index, label in enumerate(task.labels)}


def _plain(name: str) -> str:
    return re.sub(r"[-_\s]+", "_", name.casefold())


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:8])
    return f"{shown}, ... ({len(names)})" if len(names) > 8 else shown


def _reorder_outputs(model: Any, order: list[int], place: str) -> None:
    """Permute the rows of the last matrix, which gives the C outputs."""
    encoder = set(model.base_model.modules())
    linears = [one for one in model.modules() if isinstance(one, nn.Linear) and one not in encoder]
    last = [one for one in linears if one.out_features == len(order)][-1:]
    if not last:
        raise UserError(f"{place}: its classes are in another order, and its last matrix was not found: reorder them")
    with torch.no_grad():
        for parameter in last[0].parameters():
            parameter.copy_(parameter[order].clone())
