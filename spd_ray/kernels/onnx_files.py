"""ONNX files of a dense student, fp32 and dynamic INT8: for those who deploy elsewhere, and to measure against."""

import importlib
import importlib.util
import logging
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from spd_ray.base.errors import UserError

INPUTS = ["input_ids", "attention_mask", "token_type_ids"]
OPSET = 17


def check_installed(*modules: str) -> None:
    """Raises UserError naming what is not installed of `modules`."""
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if missing:
        raise UserError(f"ONNX files need what is not installed here: pip install {' '.join(missing)}")


class _Logits(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        return self.model(input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids).logits


def export_onnx(model: nn.Module, file: Path) -> None:
    """Write a transformers classifier as ONNX in fp32, batch and length free. Raises UserError without `onnx`."""
    check_installed("onnx")
    ids = torch.ones(2, 8, dtype=torch.long)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _Logits(model).eval(),
            (ids, ids, ids),
            str(file),
            input_names=INPUTS,
            output_names=["logits"],
            dynamic_axes={name: {0: "batch", 1: "length"} for name in INPUTS} | {"logits": {0: "batch"}},
            opset_version=OPSET,
            dynamo=False,
        )


def quantize_onnx(file: Path, to: Path) -> None:
    """Write the ONNX model of `file` with dynamic INT8 products. Raises UserError without `onnxruntime`."""
    check_installed("onnx", "onnxruntime")
    quantization = importlib.import_module("onnxruntime.quantization")
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        quantization.quantize_dynamic(str(file), str(to), weight_type=quantization.QuantType.QInt8)
    finally:
        root.setLevel(level)


def onnx_session(file: Path, threads: int) -> Callable[[Mapping[str, Tensor]], Tensor]:
    """A function of the three inputs (B, L) -> logits (B, C), run by ONNX Runtime on `threads` threads."""
    check_installed("onnxruntime")
    onnxruntime = importlib.import_module("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    session: Any = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    wanted = {one.name for one in session.get_inputs()}

    def run(inputs: Mapping[str, Tensor]) -> Tensor:
        found = session.run(None, {name: tensor.numpy() for name, tensor in inputs.items() if name in wanted})
        return torch.from_numpy(found[0])

    return run
