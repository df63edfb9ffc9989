"""The task and the untrained classifier of a space, to be tried before anything is trained.

Shapes: N examples, C classes.
"""

import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from transformers import PreTrainedModel

from spd_ray.config.sweep import SweepSpec
from spd_ray.config.trial import ModelConfig, TeacherConfig
from spd_ray.data.batches import EncodedSplit, EncodedTask, encode, encode_task
from spd_ray.data.tasks import Examples, Task, TaskData, load_task
from spd_ray.model.classifier import load_tokenizer, new_classifier, trained_classifier
from spd_ray.training.miniature_encoder import is_pretrained, save_untrained
from spd_ray.training.teacher import resolve_source

MOST_SAMPLED = 2000  # examples that lengths and costs are calculated from
MOST_EXTREME = 16  # texts of the most characters, of which the longest in tokens are tried


@dataclass(frozen=True)
class Untrained:
    """`model`: a new classifier on the pretrained encoder; fp32, frozen, in eval mode, eager attention, on the CPU."""

    model: PreTrainedModel
    tokenizer: Any
    extremes: EncodedSplit  # the two longest examples of train and dev, and the shortest
    sample: EncodedTask  # of MOST_SAMPLED examples a split at most
    train_examples: int  # without those held out
    chooser_examples: int
    labels: tuple[str, ...] | None  # of the classifier that the model's files bring; None: they bring none
    is_pretrained: (
        bool  # False: a miniature that has not been pretrained on this machine stands here with random weights
    )


def load_untrained(spec: SweepSpec, texts: TaskData | None = None) -> Untrained:
    """`texts`: the task's, where they have been read.

    Raises UserError where the task or the model is not available or cannot be read.
    """
    texts = texts or load_task(spec.task)
    task, train, dev = texts.task, texts.train, texts.dev
    with pretrained_folder(spec.model, spec.teacher) as folder:
        tokenizer = load_tokenizer(folder, spec.task.max_length, spec.teacher.source_key)
        model = new_classifier(folder, task, dropout=0.0, key=spec.teacher.source_key)
        labels = None if spec.teacher.is_given else _labels_of_head(folder, model)
        if spec.teacher.is_given:
            trained_classifier(folder, task)  # raises for what is not the task's
    model.set_attn_implementation("eager")
    held_out = round(spec.task.holdout_fraction * len(train.labels)) if spec.task.selection == "holdout" else 0
    sample = TaskData(task, _sampled(train), _sampled(dev), texts.fingerprint)
    return Untrained(
        model=model.eval().requires_grad_(False),
        tokenizer=tokenizer,
        extremes=_extremes([train, dev], tokenizer, spec.task.max_length),
        sample=encode_task(sample, tokenizer, spec.task),
        train_examples=len(train.labels) - held_out,
        chooser_examples=held_out or len(dev.labels),
        labels=labels,
        is_pretrained=_is_there(spec.model, spec.teacher),
    )


@contextmanager
def pretrained_folder(model: ModelConfig, teacher: TeacherConfig) -> Iterator[Path]:
    """The folder that the teacher comes from; a miniature that is to be pretrained yet is of random weights."""
    if _is_there(model, teacher):
        yield resolve_source(model, teacher)
        return
    with tempfile.TemporaryDirectory(prefix="spd-") as folder:
        save_untrained(model.name, Path(folder))
        yield Path(folder)


def _is_there(model: ModelConfig, teacher: TeacherConfig) -> bool:
    """Whether nothing is to be pretrained on this machine."""
    return teacher.is_given or model.path is not None or is_pretrained(model.name, model.seed)


def _sampled(examples: Examples) -> Examples:
    """MOST_SAMPLED of the examples, evenly spread over them."""
    size = min(MOST_SAMPLED, len(examples.labels))
    return _picked(examples, np.linspace(0, len(examples.labels) - 1, size).round().astype(int))


def _picked(examples: Examples, indices: Sequence[int] | np.ndarray) -> Examples:
    text_a, text_b, labels = examples
    return Examples([text_a[i] for i in indices], text_b and [text_b[i] for i in indices], labels[indices])


def _extremes(splits: Sequence[Examples], tokenizer: Any, max_length: int) -> EncodedSplit:
    """The two longest in tokens of those with the most characters in each split, and the shortest."""
    chosen = []
    for examples in splits:
        others = examples.text_b or [""] * len(examples.text_a)
        order = np.argsort([len(a) + len(b) for a, b in zip(examples.text_a, others, strict=True)], kind="stable")
        chosen.append(_picked(examples, [order[0], *order[1:][-MOST_EXTREME:]]))
    text_b = None if chosen[0].text_b is None else [text for one in chosen for text in one.text_b or ()]
    labels = np.concatenate([one.labels for one in chosen])
    encoded = encode(Examples([text for one in chosen for text in one.text_a], text_b, labels), tokenizer, max_length)
    by_length = np.argsort(encoded.lengths, kind="stable")
    return encoded.subset(np.unique([by_length[0], *by_length[-2:]]))


def _labels_of_head(folder: Path, model: PreTrainedModel) -> tuple[str, ...] | None:
    """The classes of the classifier whose weights are in the model's files, if one is."""
    own = f"{model.base_model_prefix}."
    head = {name for name in model.state_dict() if not name.startswith(own)}
    found: set[str] = set()
    for file in folder.glob("*.safetensors"):
        with safe_open(file, framework="pt") as weights:
            found |= head & set(weights.keys())
    if not found:
        return None
    names = json.loads((folder / "config.json").read_text()).get("id2label") or {"0": "LABEL_0", "1": "LABEL_1"}
    return tuple(names[index] for index in sorted(names, key=int))


def describe_head(labels: tuple[str, ...], task: Task) -> str:
    """What a classifier that the model's files bring means for the sweep."""
    same = "this task's" if sorted(labels) == sorted(task.labels or ()) else "another label set"
    return (
        f"its files hold a trained classifier of {len(labels)} outputs ({', '.join(labels)}: {same}); "
        f"it is fine-tuned again as the teacher"
    )
