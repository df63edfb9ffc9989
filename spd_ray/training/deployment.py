"""A student packed for use, beside the dense one: sizes, answers on its task and latency, printed and returned."""

import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import nn

from spd_ray.base.errors import UserError
from spd_ray.config.trial import TaskConfig
from spd_ray.data.batches import EncodedTask, encode_task
from spd_ray.data.tasks import load_task
from spd_ray.kernels.bert import check_architecture
from spd_ray.kernels.build import unavailable_because
from spd_ray.kernels.encoder import load_sparse
from spd_ray.kernels.onnx_files import check_installed, export_onnx, onnx_session, quantize_onnx
from spd_ray.kernels.packed import Sizes, pack_model
from spd_ray.kernels.timing import inputs_of, least, threads
from spd_ray.model.classifier import load_tokenizer
from spd_ray.training.checkpoint import load_checkpoint
from spd_ray.training.teacher import predict, scores_of

BATCH_SIZE = 32
SHAPES = ((1, 32), (1, 128))  # of --bench: sequences x tokens
SECONDS = 5.0  # for each of them


def deploy(
    folder: Path, out: Path, values: str, embeddings: str, onnx_file: Path | None = None, bench: bool = False
) -> dict[str, Any]:
    """Pack the checkpoint in `folder` into `out`; print and return sizes, the comparison, and with `bench` times.

    Numbers are written as `values` and `embeddings` say (`pack_model`), the ONNX file and its INT8 to `onnx_file`.
    """
    dense = load_checkpoint(folder)
    check_architecture(dense.config)
    if out.exists() and not (out / "packed.json").is_file():
        raise UserError(f"--out {out}: there is something else than a packed student; choose another place")
    sizes = pack_model(dense, folder, out, values=values, embeddings=embeddings)
    sparse = load_sparse(out)
    report: dict[str, Any] = {"out": str(out), "sparsity": 1 - sizes.kept / sizes.weights, **asdict(sizes)}
    print(f"{out}: {report['sparsity']:.1%} of the encoder's weights are zero")
    reason = unavailable_because()
    if reason:
        print(f"dense speed and memory: {reason}")
    with tempfile.TemporaryDirectory() as scratch:
        onnx = _onnx_files(dense, onnx_file, Path(scratch))
        report |= {f"onnx_{kind}": file.stat().st_size for kind, file in onnx.items()}
        _print_sizes(sizes, report)
        report |= _compared(folder, dense, {"packed": sparse, **_sessions(onnx)})
        if bench:
            report["latency_ms"] = _timed(dense, sparse, onnx)
    return report


def _onnx_files(dense: nn.Module, asked: Path | None, scratch: Path) -> dict[str, Path]:
    """The fp32 and INT8 files: where they are asked for, else in `scratch` if they can be made."""
    try:
        check_installed("onnx", "onnxruntime")
    except UserError:
        print("ONNX INT8: not compared; onnx and onnxruntime are not installed")
        return {}
    fp32 = asked or scratch / "model.onnx"
    fp32.parent.mkdir(parents=True, exist_ok=True)
    files = {"fp32": fp32, "int8": fp32.with_suffix(".int8.onnx")}
    export_onnx(dense, files["fp32"])
    quantize_onnx(files["fp32"], files["int8"])
    return files


class _Session(nn.Module):
    """An ONNX file that answers as a model does."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.run = onnx_session(file, torch.get_num_threads())

    def forward(self, **inputs: torch.Tensor) -> Any:
        """(B, L) each -> something with logits (B, C)."""
        return SimpleNamespace(logits=self.run(inputs))


def _sessions(files: dict[str, Path]) -> dict[str, nn.Module]:
    return {f"onnx_{kind}": _Session(file) for kind, file in files.items()}


def _print_sizes(sizes: Sizes, report: dict[str, Any]) -> None:
    rows = {
        "packed": sizes.packed,
        "dense fp32": sizes.dense,
        "ONNX fp32": report.get("onnx_fp32"),
        "ONNX INT8": report.get("onnx_int8"),
        "encoder matrices, packed": sizes.encoder_packed,
        "  with indices at the entropy bound": sizes.encoder_bound,
    }
    for name, size in rows.items():
        if size is not None:
            print(f"  {name:<36}{size / 1e6:9.2f} MB")


def _compared(folder: Path, dense: nn.Module, others: dict[str, nn.Module]) -> dict[str, Any]:
    """Largest differences of logits from the dense student's, on the task's dev set if it can be read, with scores."""
    data = _task_of(folder)
    models = {"dense": dense, **others}
    if isinstance(data, str):
        inputs = inputs_of(4, min(64, int(getattr(dense.config, "max_position_embeddings", 64))), _vocabulary(dense))
        with torch.inference_mode():
            logits = {name: model(**inputs).logits.numpy() for name, model in models.items()}
        print(f"  answers compared on random tokens, not on its task: {data}")
    else:
        logits = {name: predict(model, data.dev, BATCH_SIZE, "cpu") for name, model in models.items()}
    report: dict[str, Any] = {"largest_difference": {}, "dev_score": {}}
    for name, found in logits.items():
        difference = float(np.abs(found - logits["dense"]).max())
        line = f"  {name:<12} largest difference of a logit {difference:.1e}"
        report["largest_difference"][name] = difference
        if not isinstance(data, str):
            scores = scores_of(found, data.dev, data.task)
            report["dev_score"][name] = scores.score
            shown = {data.task.metric: scores.score, **scores.other_scores}
            line += "".join(f", dev {metric} {value:.4f}" for metric, value in shown.items())
        print(line)
    return report


def _vocabulary(model: Any) -> int:
    return int(model.config.vocab_size)


def _task_of(folder: Path) -> EncodedTask | str:
    """The task that the student was trained on, by the trial's configuration beside it; or why it is not available."""
    try:
        config = TaskConfig.model_validate(json.loads((folder / "spd_ray.json").read_text())["task"])
        return encode_task(load_task(config), load_tokenizer(folder, config.max_length), config)
    except FileNotFoundError:
        return "the checkpoint has no spd_ray.json"
    except (OSError, ValueError, LookupError, TypeError) as error:
        return " ".join(str(error).split())


def _timed(dense: nn.Module, sparse: nn.Module, onnx: dict[str, Path]) -> dict[str, dict[str, float]]:
    """{"1x32": {"dense": ms, "packed": ms, "onnx_int8": ms}}, one thread, printed."""
    found = {}
    with threads(1):
        models = {"dense": dense, "packed": sparse, **_sessions(onnx)}
        for batch, length in SHAPES:
            length = min(length, int(getattr(dense.config, "max_position_embeddings", length)))
            functions = {name: lambda inputs, model=model: model(**inputs) for name, model in models.items()}
            best = least(functions, inputs_of(batch, length, _vocabulary(dense)), SECONDS)
            found[f"{batch}x{length}"] = best
            print(f"  {batch} x {length}: " + ", ".join(f"{name} {ms:.2f} ms" for name, ms in best.items()))
    return found
