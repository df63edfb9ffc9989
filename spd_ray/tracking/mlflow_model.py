"""MLflow's own files for a student: mlflow.transformers, mlflow.pyfunc and `mlflow models serve` answer with it.

The folder stays a plain transformers directory: `model_binary: .` says that the weights lie beside the file MLmodel.
Only the tokenizer is there twice, for MLflow looks for it in components/tokenizer and nowhere else. The format is
documented ("MLmodel format"); it is written here without MLflow, whose own writer would copy the weights.

Why so: docs/decisions.md #a-student-is-a-folder-that-mlflow-reads.
"""

import json
import platform
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

PACKAGES = ("mlflow", "torch", "transformers", "tokenizers", "safetensors")  # what answering takes
TEXTS = ("text", "text_pair")  # the columns of a request, as transformers' pipeline calls them
_TOKENIZER_FILES = ("tokenizer*", "vocab*", "merges.txt", "special_tokens_map.json", "added_tokens.json", "*.model")


def write_mlflow_files(student: Path, folder: Path, example: Mapping[str, str], max_length: int, model_id: str) -> None:
    """Fill the empty `folder` with links to the files of `student` and with MLflow's.

    `example` is one request, under one or both of `TEXTS`; inputs longer than `max_length` tokens are cut, as in
    training.
    """
    for file in student.iterdir():
        (folder / file.name).symlink_to(file.resolve())
    tokenizer = folder / "components" / "tokenizer"
    tokenizer.mkdir(parents=True)
    for file in (file for pattern in _TOKENIZER_FILES for file in student.glob(pattern)):
        shutil.copy(file, tokenizer)
    config = json.loads((student / "config.json").read_text())
    table = {"columns": list(example), "data": [list(example.values())]}
    _dump_json(folder / "input_example.json", table)
    _dump_json(folder / "serving_input_example.json", {"dataframe_split": table})
    requirements = [f"{name}=={version(name).partition('+')[0]}" for name in PACKAGES]
    (folder / "requirements.txt").write_text("\n".join(requirements) + "\n")
    environment = {"python": platform.python_version(), "dependencies": ["-r requirements.txt"]}
    (folder / "python_env.yaml").write_text(yaml.safe_dump(environment, sort_keys=False))
    described = _description(config, _tokenizer_class(student), list(example), max_length, model_id)
    (folder / "MLmodel").write_text(yaml.safe_dump(described, sort_keys=False))


def _description(
    config: Mapping[str, Any], tokenizer: str, columns: list[str], max_length: int, model_id: str
) -> dict[str, Any]:
    inputs = [{"type": "string", "name": name, "required": True} for name in columns]
    outputs = [
        {"type": kind, "name": name, "required": True} for name, kind in (("label", "string"), ("score", "double"))
    ]
    return {
        "flavors": {
            "python_function": {
                "config": {"truncation": True, "max_length": max_length},
                "env": {"virtualenv": "python_env.yaml"},
                "loader_module": "mlflow.transformers",
                "python_version": platform.python_version(),
            },
            "transformers": {
                "task": "text-classification",
                "instance_type": "TextClassificationPipeline",
                "pipeline_model_type": config["architectures"][0],
                "source_model_name": model_id,
                "model_binary": ".",
                "components": ["tokenizer"],
                "tokenizer_type": tokenizer,
                "transformers_version": version("transformers"),
            },
        },
        "mlflow_version": version("mlflow"),
        "saved_input_example_info": {
            "artifact_path": "input_example.json",
            "serving_input_path": "serving_input_example.json",
            "type": "dataframe",
            "pandas_orient": "split",
        },
        "signature": {"inputs": json.dumps(inputs), "outputs": json.dumps(outputs), "params": None},
        "utc_time_created": datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f"),
    }


def _tokenizer_class(student: Path) -> str:
    """What the tokenizer says it is; transformers' fast one where it does not say."""
    said = json.loads((student / "tokenizer_config.json").read_text()).get("tokenizer_class")
    return str(said or "PreTrainedTokenizerFast")


def _dump_json(file: Path, content: Any) -> None:
    file.write_text(json.dumps(content, indent=2) + "\n")
