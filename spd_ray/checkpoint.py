"""Sparse students on disk: plain transformers directories, reloaded, counted and scored before they are believed."""

import json
from pathlib import Path
from typing import NamedTuple

import torch
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from spd_ray.cache import whole_folder
from spd_ray.errors import UserError
from spd_ray.masks import zeros_asked
from spd_ray.surgery import encoder_layers, extract_student
from spd_ray.teacher import Teacher, evaluate, quiet_transformers
from spd_ray.trainer import SpdRun


class LayerZeros(NamedTuple):
    """Zeros of one prunable matrix of a checkpoint."""

    name: str
    numel: int
    zeros: int


class Verification(NamedTuple):
    """What a checkpoint is after it was read back from disk."""

    score: float
    sparsity: float
    layers: list[LayerZeros]


def export_student(run: SpdRun, folder: Path, command: str) -> None:
    """Write the run's student to `folder`: config, safetensors, tokenizer, `spd_ray.json` and a model card.

    `folder` appears, or replaces an earlier one, complete. `command` is what reproduces the student.
    """
    with whole_folder(folder) as building:
        with quiet_transformers():
            student = AutoModelForSequenceClassification.from_config(run.teacher.model.config)
            student.load_state_dict(extract_student(run.model))
            student.save_pretrained(building)
            run.teacher.tokenizer.save_pretrained(building)
        (building / "spd_ray.json").write_text(run.config.model_dump_json(indent=2))
        (building / "README.md").write_text(_model_card(run, command))


def load_checkpoint(folder: Path) -> PreTrainedModel:
    """Load a student as any user would. Raises UserError if the directory is absent or broken."""
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder}: no checkpoint here; a transformers directory with config.json is expected")
    try:
        with quiet_transformers():
            return AutoModelForSequenceClassification.from_pretrained(folder).eval()
    except Exception as error:
        raise UserError(f"{folder}: the checkpoint cannot be read ({error})") from error


def count_zeros(model: PreTrainedModel) -> list[LayerZeros]:
    """The zeros of every linear matrix of every encoder layer, from the weights themselves."""
    counts = []
    for index, layer in enumerate(encoder_layers(model)):
        for name, module in layer.named_modules():
            if isinstance(module, torch.nn.Linear):
                zeros = int((module.weight == 0).sum())
                counts.append(LayerZeros(f"{index}.{name}", module.weight.numel(), zeros))
    return counts


def verify_checkpoint(folder: Path, target_sparsity: float, teacher: Teacher) -> Verification:
    """Read `folder` back, count its zeros matrix by matrix and score it on dev again.

    Raises ValueError if any matrix has not exactly the zeros that the target sparsity asks for.
    """
    model = load_checkpoint(folder)
    layers = count_zeros(model)
    for layer in layers:
        asked = zeros_asked(layer.numel, target_sparsity)
        if layer.zeros != asked:
            raise ValueError(
                f"{folder}: {layer.name} has {layer.zeros} zeros, sparsity {target_sparsity:g} asks for {asked}"
            )
    scores = evaluate(model, teacher.data.dev, teacher.data.task)
    zeros, numel = sum(layer.zeros for layer in layers), sum(layer.numel for layer in layers)
    return Verification(scores.score, zeros / numel, layers)


def _model_card(run: SpdRun, command: str) -> str:
    config = run.config
    task = run.teacher.data.task
    synthetic = "\nThe task is synthetic: its scores are not GLUE's.\n" if config.task.name.startswith("mini_") else ""
    return f"""---
library_name: transformers
pipeline_tag: text-classification
---
# {config.task.name}, {config.method.target_sparsity:.0%} of the encoder weights are zero

Made by Sparse Progressive Distillation (Huang et al., ACL 2022, arXiv:2110.08190) with spd_ray.
{synthetic}
Dense teacher, dev {task.metric}: {run.teacher.score:.4f}. Student at step {run.step} of {run.timeline.t3}.

Reproduce:

    {command}

with this trial's configuration:

```json
{json.dumps(config.model_dump(mode="json"), indent=2)}
```
"""
