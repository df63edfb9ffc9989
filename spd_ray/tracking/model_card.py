"""A student's model card, and the space that makes it again: what is beside the weights for whoever takes them away."""

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any, NamedTuple

import yaml

from spd_ray.config.execution import TrackingConfig
from spd_ray.config.sweep import SweepSpec
from spd_ray.config.trial import TrialConfig
from spd_ray.kernels.cost import StudentCost
from spd_ray.records.schema import TrialRecord

REPRODUCE = "space.yaml"  # in the checkpoint's folder
_SETTINGS = ("p0", "stage1_lr", "stage23_lr", "total_epochs", "stage1_epochs", "stage2_epochs", "pruning_end")
_WHERE = 'model="FOLDER"'  # of the snippet
_NEXT = "## What it is not"  # the heading after the snippets
_TEXTS = {
    "text": "a text as in the training data",
    "text_pair": "its second text",
}


class StudentFacts(NamedTuple):
    """What is known of a student that was read back from disk."""

    selection_score: float  # on the split that it was chosen on
    train_score: float
    dev_score: float
    step: int
    asked: float  # the sparsity that was aimed at
    zeros: int  # in the prunable matrices
    prunable: int
    parameters: int
    remaining: int  # parameters that are not zero
    file_bytes: int  # of model.safetensors
    cost: StudentCost


class DataFacts(NamedTuple):
    """What a student was trained and chosen on."""

    metric: str
    columns: tuple[str, ...]  # of a request: text, or text and text_pair
    train_examples: int
    dev_examples: int
    synthetic: bool
    teacher_score: float
    teacher_train_score: float
    majority_score: float
    baseline: str  # whose score that is


def space_of(spec: SweepSpec, trial: TrialRecord, config: TrialConfig) -> str:
    """The YAML of a space that runs this one trial again, and nothing else."""
    study = spec.study.model_copy(update={"trials": 1, "seeds": (config.seed,), "sampler": "grid"})
    alone = {"method": config.method, "search": {}, "warm_start": (), "study": study, "tracking": TrackingConfig()}
    name = {"name": f"{spec.name}-{trial.trial_id}", "preset": None, "early_stopping": None}
    values = spec.model_copy(update={**alone, **name}).resolved()
    return (
        f"# This trial of the sweep {spec.name} alone: python -m spd_ray.sweep --space {REPRODUCE}\n"
        + yaml.safe_dump(values, sort_keys=False)
    )


def model_card(
    spec: SweepSpec, trial: TrialRecord, config: TrialConfig, student: StudentFacts, data: DataFacts, model: str | None
) -> str:
    """The card in Markdown, with the hub's header; `model` is where MLflow has the student, as models:/NAME@ALIAS."""
    share, origin = student.zeros / student.prunable, PurePath(trial.model).name
    source = config.task.path or config.task.train_file or config.task.hub
    header = yaml.safe_dump(_header(spec, trial, student, data), sort_keys=False)
    settings = config.method.model_dump()
    shown = dict.fromkeys((*_SETTINGS, *(name for name in spec.dimensions() if name in settings)))
    values = ", ".join(f"{name} {settings[name]:.4g}" for name in shown if isinstance(settings[name], int | float))
    return f"""---
{header}---
# {config.task.name}: {share:.1%} of the encoder's weights are zero

A student of {origin}, pruned by the method `{config.method.name}` ({spec.card(config.method.name).source}).
{_synthetic(data)}
{_scores(trial, student, data)}
{_choice(trial, student)}

## Size

- {student.zeros:,} of the {student.prunable:,} weights in the encoder's linear layers are exactly 0
  (a share of {share:.7f}, asked for {student.asked:g}); of the whole model's {student.parameters:,} parameters
  {student.remaining:,} are not 0.
- `model.safetensors` has {student.file_bytes / 1e6:.1f} MB, for it holds the zeros too{_packed(student.cost)}
  `python -m spd_ray.deploy FOLDER --out PACKED --bench` packs it and measures size and latency on your machine.

## Data

{data.train_examples:,} training and {data.dev_examples:,} dev examples of `{config.task.name}`\
{f" ({source})" if source else ""}, at most {config.task.max_length} tokens each.

## Load it

```python
{_snippet(data, config.task.max_length)}
```
{_mlflow(model, data)}
{_NEXT}

- No faster than the dense model as it is: the zeros are multiplied as any other number. Packed it is (above).
- Not tested beyond the data above: neither on a test set of its own nor on other texts, languages or groups of people.
- No new model: what {origin} was pretrained on, and its licence, hold for this one.

## Made by

Trial {trial.trial_id} of the sweep `{spec.name}`, its weights after step {student.step} of {trial.t3}: {values}.
All settings are in `spd_ray.json`. To run this one trial again, in this folder:

    python -m spd_ray.sweep --space {REPRODUCE}
"""


def card_on_hub(card: str, repo: str, packed: str | None) -> str:
    """The card as it stands in the repository `repo`, with the packed student in its folder `packed`, if any."""
    card = card.replace(_WHERE, f'model="{repo}"')
    if packed is None:
        return card
    snippet = f"""The small, fast copy, with `spd_ray` installed:

```python
from huggingface_hub import snapshot_download
from spd_ray import load_sparse

student = load_sparse(snapshot_download("{repo}") + "/{packed}")
```

"""
    return card.replace(_NEXT, snippet + _NEXT)


def _packed(cost: StudentCost) -> str:
    """How a sentence about the dense file ends."""
    if cost.packed_bytes is None:
        return "."
    size = f"; packed it has {cost.packed_bytes / 1e6:.1f} MB."
    if cost.latency_ms is None:
        return size
    return (
        f"{size}\n- Packed it answers in {cost.latency_ms:.2f} ms, by stock torch in "
        f"{cost.dense_latency_ms:.2f} ms ({cost.timed_on})."
    )


def _header(spec: SweepSpec, trial: TrialRecord, student: StudentFacts, data: DataFacts) -> dict[str, Any]:
    metric = {"type": data.metric, "value": round(student.dev_score, 6)}
    result = {
        "task": {"type": "text-classification"},
        "dataset": {"name": trial.task, "type": trial.task, "split": "dev"},
        "metrics": [metric],
    }
    return {
        "library_name": "transformers",
        "pipeline_tag": "text-classification",
        "tags": ["pruned", "sparse", "spd_ray"],
        "model-index": [{"name": f"{spec.name}-{trial.trial_id}", "results": [result]}],
    }


def _synthetic(data: DataFacts) -> str:
    return "The task is synthetic: its scores are not GLUE's.\n" if data.synthetic else ""


def _scores(trial: TrialRecord, student: StudentFacts, data: DataFacts) -> str:
    rows = [
        f"| | {trial.selection} {data.metric} | train {data.metric} | encoder zeros |",
        "|---|---|---|---|",
        f"| {data.baseline} | {data.majority_score:.4f} | | |",
        f"| dense teacher | {data.teacher_score:.4f} | {data.teacher_train_score:.4f} | 0 |",
        f"| **this student** | **{student.selection_score:.4f}** | {student.train_score:.4f} | "
        f"{student.zeros / student.prunable:.4f} |",
    ]
    return "\n".join(rows)


def _choice(trial: TrialRecord, student: StudentFacts) -> str:
    read_back = "The student's score is that of the files in this folder, read back."
    if trial.selection == "dev":
        return f"\n{read_back} It was chosen on dev among other trials and steps, so dev flatters it."
    return f"\n{read_back} On dev, which nothing was chosen on, it scores {student.dev_score:.4f}."


def _snippet(data: DataFacts, max_length: int) -> str:
    request = ", ".join(f'"{name}": "{_TEXTS[name]}"' for name in data.columns)
    return "\n".join(
        [
            "from transformers import pipeline",
            "",
            f'classify = pipeline("text-classification", {_WHERE})',
            f"print(classify({{{request}}}, truncation=True, max_length={max_length}))",
        ]
    )


def _mlflow(model: str | None, data: DataFacts) -> str:
    if model is None:
        return ""
    request: Mapping[str, str] = {name: _TEXTS[name] for name in data.columns}
    return f"""
Or from MLflow, with `MLFLOW_TRACKING_URI` set to its server:

```python
import mlflow

model = mlflow.pyfunc.load_model("{model}")
print(model.predict({dict(request)}))
```
"""
