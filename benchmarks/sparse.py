"""Sparse against dense: `python -m benchmarks.sparse [--part encoder|step] [--shape minilm|bert-base] [--json FILE]`.

`step`: training with kernels over training without (`benchmarks.sparse_steps`). `encoder`: milliseconds of a whole
classifier, random weights and masks, all candidates alternately in one process, the least of many rounds: torch fp32,
ONNX Runtime fp32 and dynamic INT8 (if onnxruntime is installed), and the packed student.
"""

import argparse
import importlib.util
import json
import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.sparse_steps import step_ratios
from spd_ray.kernels.bert import is_matrix
from spd_ray.kernels.build import unavailable_because
from spd_ray.kernels.encoder import packed_of, sparse_classifier
from spd_ray.kernels.onnx_files import export_onnx, onnx_session, quantize_onnx
from spd_ray.kernels.timing import Candidate, cpu_name, inputs_of, least

SHAPES = {
    "minilm": {
        "num_hidden_layers": 6,
        "hidden_size": 384,
        "num_attention_heads": 12,
        "intermediate_size": 1536,
    },
    "bert-base": {},
}
SPARSITIES = (0.9, 0.95)
INPUTS = ((1, 16), (1, 32), (1, 128), (8, 32), (32, 32), (32, 128))  # sequences x tokens
COLUMNS = ("torch", "ort_fp32", "ort_int8", "ours")


def dense_model(shape: str, sparsity: float) -> nn.Module:
    """A BERT classifier with random weights, of which a random `sparsity` is zero in every encoder matrix."""
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    model = BertForSequenceClassification(BertConfig(**SHAPES[shape])).eval().requires_grad_(False)
    for name, weight in model.named_parameters():
        if is_matrix(name):
            weight.data *= torch.rand(weight.shape) >= sparsity
    return model


def candidates(shape: str, folder: Path) -> dict[str, Candidate]:
    """By column, and by `ours SPARSITY`: what is timed."""
    models = {sparsity: dense_model(shape, sparsity) for sparsity in SPARSITIES}
    found: dict[str, Candidate] = {"torch": answering(models[SPARSITIES[0]])}
    if importlib.util.find_spec("onnxruntime") and importlib.util.find_spec("onnx"):
        export_onnx(models[SPARSITIES[0]], folder / "fp32.onnx")
        quantize_onnx(folder / "fp32.onnx", folder / "int8.onnx")
        found["ort_fp32"] = onnx_session(folder / "fp32.onnx", torch.get_num_threads())
        found["ort_int8"] = onnx_session(folder / "int8.onnx", torch.get_num_threads())
    for sparsity, model in models.items():
        found[f"ours {sparsity}"] = answering(sparse_classifier(packed_of(model)))
    return found


def answering(model: nn.Module) -> Candidate:
    """`model` as a function of its inputs."""
    return lambda inputs: model(**inputs).logits


def measure(shape: str, seconds: float) -> dict[str, dict[str, dict[str, float]]]:
    """{sparsity: {"1x16": {column: milliseconds}}}."""
    table: dict[str, dict[str, dict[str, float]]] = {str(sparsity): {} for sparsity in SPARSITIES}
    with tempfile.TemporaryDirectory() as folder:
        functions = candidates(shape, Path(folder))
        for batch, length in INPUTS:
            best = least(functions, inputs_of(batch, length, 20_000), seconds)
            for sparsity in SPARSITIES:
                row = {name: best[name] for name in COLUMNS if name in best} | {"ours": best[f"ours {sparsity}"]}
                table[str(sparsity)][f"{batch}x{length}"] = {name: round(ms, 3) for name, ms in row.items()}
                print_row(sparsity, f"{batch}x{length}", row)
    return table


def print_row(sparsity: float, name: str, row: Mapping[str, float]) -> None:
    """One line: milliseconds, and how many times as fast as torch and as INT8 ours is."""
    cells = [f"{column} {row[column]:8.2f}" for column in COLUMNS if column in row]
    ratios = [f"{row[column] / row['ours']:.2f} x {column}" for column in ("torch", "ort_int8") if column in row]
    print(f"{sparsity:.0%} {name:>7}: {'  '.join(cells)}   {', '.join(ratios)}", flush=True)


def main() -> None:
    """Print the table, and write it as JSON if asked to."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sparse", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--part", choices=("encoder", "step"), nargs="+", default=["encoder", "step"])
    parser.add_argument("--shape", choices=SHAPES, default="minilm", help="of the encoder")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=20.0, help="for each of the six inputs (default: 20)")
    parser.add_argument("--epochs", type=int, default=3, help="of the trials, 16 steps each (default: 3)")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    logging.getLogger("transformers").setLevel(logging.ERROR)
    reason = unavailable_because()
    kernels = torch.ops.spd_ray.instruction_set() if reason is None else f"none: {reason}"
    machine = {"cpu": cpu_name(), "threads": options.threads, "torch": torch.__version__, "kernels": kernels}
    print(f"{options.shape}, milliseconds; {', '.join(f'{key} {value}' for key, value in machine.items())}")
    report: dict[str, Any] = {"shape": options.shape, "machine": machine}
    if "step" in options.part:
        of_lengths = {name: step_ratios("small", name, SPARSITIES, options.epochs) for name in ("rte", "cola")}
        report["step"] = of_lengths
        report["step_minilm"] = {"rte": step_ratios("minilm", "rte", SPARSITIES, 1)}
    if "encoder" in options.part:
        report["encoder"] = measure(options.shape, options.seconds)
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
