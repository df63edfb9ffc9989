"""The packed student: a directory of plain safetensors that holds kept weights and where they are, and no zeros.

    config.json, tokenizer files   as transformers writes them
    packed.safetensors             NAME.values fp32|fp16 (N,) and NAME.gaps or NAME.mask uint8 of every encoder matrix;
                                   NAME fp32|fp16|int8 (R, H), and for int8 NAME.scale fp32 (R,), of every embedding;
                                   NAME fp32 of everything else
    packed.json                    format, version, and for every matrix its shape, kept weights and kind of index
    SHA256SUMS

Gaps: kept weights are numbered row by row through the whole matrix; a byte below 255 is the count of zeros before the
next kept weight, 255 stands for 255 zeros and no kept weight. Mask: a bit a weight, the highest bit first.

Why so: docs/decisions.md #a-packed-student-is-plain-safetensors.
"""

import json
import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from spd_ray.base.cache import check_sums, write_sums
from spd_ray.base.errors import UserError
from spd_ray.base.files import whole_folder
from spd_ray.kernels.bert import check_architecture, is_embedding, is_matrix, parameter_shapes

FORMAT, VERSION = "spd_ray.packed", 1
PACKED, MANIFEST, CONFIG = "packed.safetensors", "packed.json", "config.json"
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
)
ESCAPE = 255  # a gap byte that stands for 255 zeros and no kept weight
TYPES = {"fp32": torch.float32, "fp16": torch.float16, "int8": torch.int8}


@dataclass(frozen=True)
class Matrix:
    """A sparse matrix (O, I) of N kept weights."""

    shape: tuple[int, int]
    values: Tensor  # (N,) fp32
    columns: Tensor  # (N,) uint16
    rows: Tensor  # (O + 1,) int32: where each row begins

    def dense(self) -> Tensor:
        """(O, I), fp32."""
        counts = (self.rows[1:] - self.rows[:-1]).long()
        weight = torch.zeros(self.shape)
        weight[torch.arange(self.shape[0]).repeat_interleave(counts), self.columns.long()] = self.values
        return weight


@dataclass(frozen=True)
class Rows:
    """A table (R, H) of embeddings, looked up row by row."""

    weight: Tensor  # (R, H) fp32, fp16 or int8
    scale: Tensor | None  # (R,) fp32: what a row of int8 is multiplied by

    def dense(self) -> Tensor:
        """(R, H), fp32."""
        return self.weight.float() if self.scale is None else self.weight.float() * self.scale[:, None]


@dataclass(frozen=True)
class Packed:
    """A packed directory, read and checked."""

    config: Any  # transformers' configuration
    matrices: dict[str, Matrix]
    embeddings: dict[str, Rows]
    others: dict[str, Tensor]  # fp32

    def dense_state(self) -> dict[str, Tensor]:
        """The state dict of the stock transformers model, fp32."""
        parts: list[Mapping[str, Matrix | Rows]] = [self.matrices, self.embeddings]
        return {**{name: one.dense() for part in parts for name, one in part.items()}, **self.others}


@dataclass(frozen=True)
class Sizes:
    """Bytes of a student's weights in several forms."""

    packed: int  # the packed safetensors file
    dense: int  # all weights in fp32
    encoder_packed: int  # the encoder's matrices, values and indices, as packed
    encoder_bound: int  # the same values with indices at the entropy bound
    kept: int  # kept weights of the encoder's matrices
    weights: int  # all weights of these


def pack_model(
    model: nn.Module, checkpoint: Path | None, folder: Path, *, values: str = "fp32", embeddings: str = "fp32"
) -> Sizes:
    """Write `model`, a transformers classifier whose encoder matrices have zeros, to `folder`, which appears complete.

    `checkpoint` is the directory whose tokenizer files go along; `values` is fp32 or fp16, `embeddings` fp32, fp16 or
    int8 (a scale a row). Raises UserError for another architecture than BERT's and for what fp16 cannot hold.
    """
    config: Any = model.config
    check_architecture(config)
    packing = _Packing(values, embeddings)
    for name, tensor in model.state_dict().items():
        packing.add(name, tensor.detach().to("cpu"))
    manifest = {"format": FORMAT, "version": VERSION, "values": values, "embeddings": embeddings}
    with whole_folder(folder) as building:
        save_file(packing.tensors, building / PACKED)
        (building / PACKED).chmod(0o644)  # as the other files: safetensors lets nobody else read its own
        (building / MANIFEST).write_text(json.dumps({**manifest, "matrices": packing.matrices}, indent=2) + "\n")
        config.to_json_file(building / CONFIG)
        for file in TOKENIZER_FILES:
            if checkpoint is not None and (checkpoint / file).is_file():
                shutil.copy(checkpoint / file, building / file)
        size = (building / PACKED).stat().st_size
        write_sums(building)
    return packing.sizes(size)


class _Packing:
    def __init__(self, values: str, embeddings: str) -> None:
        if values not in ("fp32", "fp16") or embeddings not in TYPES:
            raise UserError(f"values {values}, embeddings {embeddings}: fp32 or fp16, and int8 for embeddings alone")
        self.values, self.embeddings = values, embeddings
        self.tensors: dict[str, Tensor] = {}
        self.matrices: dict[str, dict[str, Any]] = {}
        self.dense = 0

    def add(self, name: str, tensor: Tensor) -> None:
        if not tensor.is_floating_point():  # position_ids of older checkpoints
            return
        tensor = tensor.float().contiguous()
        self.dense += tensor.numel() * 4
        if is_matrix(name):
            self._add_matrix(name, tensor)
        elif is_embedding(name):
            self._add_embedding(name, tensor)
        else:
            self.tensors[name] = tensor.clone()

    def _add_matrix(self, name: str, weight: Tensor) -> None:
        flat = weight.flatten()
        at = flat.nonzero().flatten()
        self.tensors[f"{name}.values"] = _as(flat[at], self.values, name)
        gaps, mask = to_gaps(at.numpy()), np.packbits(flat.numpy() != 0)
        kind = "gaps" if len(gaps) < len(mask) else "mask"
        self.tensors[f"{name}.{kind}"] = torch.from_numpy(gaps if kind == "gaps" else mask)
        self.matrices[name] = {"shape": list(weight.shape), "kept": len(at), "index": kind}

    def _add_embedding(self, name: str, weight: Tensor) -> None:
        if self.embeddings != "int8":
            self.tensors[name] = _as(weight, self.embeddings, name)
            return
        scale = weight.abs().amax(1) / 127
        divisor = torch.where(scale > 0, scale, 1.0)
        self.tensors[name] = (weight / divisor[:, None]).round().to(torch.int8)
        self.tensors[f"{name}.scale"] = scale

    def sizes(self, packed: int) -> Sizes:
        kept = weights = bound = stored = 0
        for name, one in self.matrices.items():
            value, index = self.tensors[f"{name}.values"], self.tensors[f"{name}.{one['index']}"]
            numel = math.prod(one["shape"])
            kept, weights = kept + one["kept"], weights + numel
            stored += value.nbytes + index.nbytes
            bound += value.nbytes + math.ceil(numel * entropy(one["kept"] / numel) / 8)
        return Sizes(packed, self.dense, stored, bound, kept, weights)


def _as(tensor: Tensor, kind: str, name: str) -> Tensor:
    if kind == "fp16" and tensor.numel() and float(tensor.abs().max()) > torch.finfo(torch.float16).max:
        raise UserError(f"{name}: a value of {float(tensor.abs().max()):g} is more than fp16 can hold; use fp32")
    return tensor.to(TYPES[kind], copy=True)


def read_packed(folder: Path) -> Packed:
    """Read a packed directory. Raises UserError where a file is absent, cut short or not as it was written."""
    for file in (CONFIG, MANIFEST, PACKED):
        if not (folder / file).is_file():
            raise UserError(f"{folder}: no packed student here; {file} is missing (spd_ray.deploy writes one)")
    try:
        check_sums(folder)
        manifest = _manifest(folder)
        config = _config(folder)
        with safe_open(folder / PACKED, "pt") as file:
            return _Reading({name: file.get_tensor(name) for name in file.keys()}, manifest).packed(config)  # noqa: SIM118
    except UserError:
        raise
    except (ValueError, OSError, SafetensorError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
        raise UserError(f"{folder}: this packed student is damaged: {' '.join(str(error).split())}") from error


def _manifest(folder: Path) -> dict[str, Any]:
    manifest = json.loads((folder / MANIFEST).read_text())
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ValueError(f"{MANIFEST} is not of the format {FORMAT}")
    if manifest.get("version") != VERSION:
        found = manifest.get("version")
        raise UserError(f"{folder / MANIFEST}: version {found}, this program reads version {VERSION}; update spd_ray")
    return manifest


def _config(folder: Path) -> Any:
    from transformers import BertConfig

    raw = json.loads((folder / CONFIG).read_text())
    if raw.get("model_type") != "bert":
        raise ValueError(f"{CONFIG} is not of a BERT")
    config = BertConfig.from_dict(raw)
    check_architecture(config)
    return config


class _Reading:
    """The tensors of a file, each taken once and checked."""

    def __init__(self, tensors: dict[str, Tensor], manifest: dict[str, Any]) -> None:
        self.tensors = tensors
        self.matrices = manifest["matrices"]
        self.values, self.embeddings = TYPES[manifest["values"]], TYPES[manifest["embeddings"]]

    def packed(self, config: Any) -> Packed:
        matrices: dict[str, Matrix] = {}
        embeddings: dict[str, Rows] = {}
        others: dict[str, Tensor] = {}
        for name, shape in parameter_shapes(config):
            if is_matrix(name):
                matrices[name] = self._matrix(name, shape)
            elif is_embedding(name):
                embeddings[name] = self._rows(name, shape)
            else:
                others[name] = self._take(name, shape, torch.float32)
        if self.tensors:
            raise ValueError(f"{sorted(self.tensors)[0]} is more than this model has")
        return Packed(config, matrices, embeddings, others)

    def _take(self, name: str, shape: tuple[int, ...] | None, dtype: torch.dtype) -> Tensor:
        if name not in self.tensors:
            raise ValueError(f"{name} is missing")
        tensor = self.tensors.pop(name)
        if tensor.dtype != dtype or (tuple(tensor.shape) != shape if shape else tensor.dim() != 1):
            raise ValueError(f"{name} is {tuple(tensor.shape)} of {tensor.dtype}, not {shape or ''} of {dtype}")
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise ValueError(f"{name} has values that are no numbers")
        return tensor

    def _rows(self, name: str, shape: tuple[int, ...]) -> Rows:
        scaled = self.embeddings == torch.int8
        scale = self._take(f"{name}.scale", shape[:1], torch.float32) if scaled else None
        return Rows(self._take(name, shape, self.embeddings), scale)

    def _matrix(self, name: str, shape: tuple[int, ...]) -> Matrix:
        described = self.matrices[name]
        if tuple(described["shape"]) != shape or described["index"] not in ("gaps", "mask"):
            raise ValueError(f"{name}: {MANIFEST} describes another matrix than {CONFIG}")
        kind, (out, inputs) = described["index"], shape
        values = self._take(f"{name}.values", (described["kept"],), self.values)
        try:
            at = to_positions(self._take(f"{name}.{kind}", None, torch.uint8).numpy(), kind, out * inputs)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
        if len(at) != len(values):
            raise ValueError(f"{name} has {len(values)} values at {len(at)} places")
        rows = np.searchsorted(at, np.arange(out + 1, dtype=np.int64) * inputs).astype(np.int32)
        columns = torch.from_numpy((at % inputs).astype(np.uint16))
        return Matrix((out, inputs), values.float(), columns, torch.from_numpy(rows))


def entropy(p: float) -> float:
    """Bits a weight of an index in which a fraction `p` is kept.

    >>> entropy(0.5), entropy(0.0)
    (1.0, 0.0)
    """
    return 0.0 if p in (0.0, 1.0) else -(p * math.log2(p) + (1 - p) * math.log2(1 - p))


def to_gaps(at: np.ndarray) -> np.ndarray:
    """Ascending positions as bytes.

    >>> to_gaps(np.array([0, 3, 300])).tolist()
    [0, 2, 255, 41]
    """
    zeros = np.diff(at, prepend=-1) - 1
    ends = (zeros // ESCAPE + 1).cumsum() - 1
    packed = np.full(int(ends[-1]) + 1 if len(at) else 0, ESCAPE, np.uint8)
    packed[ends] = zeros % ESCAPE
    return packed


def to_positions(index: np.ndarray, kind: str, numel: int) -> np.ndarray:
    """Bytes as ascending positions below `numel`. Raises ValueError where they are none.

    >>> to_positions(np.array([0, 2, 255, 41], np.uint8), "gaps", 301).tolist()
    [0, 3, 300]
    """
    if kind == "mask":
        bits = np.unpackbits(index)
        if len(index) != -(-numel // 8) or bits[numel:].any():
            raise ValueError("the bit mask has another size than the matrix")
        return np.flatnonzero(bits)
    if len(index) and index[-1] == ESCAPE:
        raise ValueError("the last gap has no end")
    steps = index.astype(np.int64) + (index != ESCAPE)
    at = steps.cumsum()[index != ESCAPE] - 1
    if len(at) and at[-1] >= numel:
        raise ValueError("the gaps lead out of the matrix")
    return at
