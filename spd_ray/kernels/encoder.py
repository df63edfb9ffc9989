"""A sparse student in use: it answers as transformers' BertForSequenceClassification does, from its kept weights alone.

Shapes: B sequences, L positions, T real tokens (those that the attention mask has), H hidden size, C classes.

Why so: docs/decisions.md #a-packed-student-is-plain-safetensors.
"""

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spd_ray.base.errors import UserError
from spd_ray.kernels.bert import check_architecture, is_embedding, is_matrix
from spd_ray.kernels.build import available
from spd_ray.kernels.packed import Matrix, Packed, Rows, read_packed

GROUP = 512  # tokens that go through all layers together: what they need stays within the caches


def load_sparse(folder: str | Path) -> nn.Module:
    """The packed student in `folder`, ready to use. Raises UserError where it cannot be read.

    Where the kernels cannot be built, it is the stock model with its zeros: the same answers, dense speed and memory.
    """
    return sparse_classifier(read_packed(Path(folder)))


def sparse_classifier(packed: Packed) -> nn.Module:
    """A packed student as a module: compiled where that is possible, else the stock transformers model."""
    if available():
        return BertForSequenceClassification(packed).eval()
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_config(packed.config)
    model.load_state_dict(packed.dense_state())
    return model.eval().requires_grad_(False)


def packed_of(model: nn.Module) -> Packed:
    """A dense transformers classifier as `read_packed` would give it back: everything in fp32.

    Raises UserError for another architecture than BERT's.
    """
    config: Any = model.config
    check_architecture(config)
    matrices, embeddings, others = {}, {}, {}
    for name, tensor in model.state_dict().items():
        weight = tensor.detach().float().contiguous()
        if is_matrix(name):
            matrices[name] = matrix_of(weight)
        elif is_embedding(name):
            embeddings[name] = Rows(weight, None)
        else:
            others[name] = weight
    return Packed(config, matrices, embeddings, others)


def matrix_of(weight: Tensor) -> Matrix:
    """The kept weights of a dense (O, I)."""
    row, column = weight.nonzero(as_tuple=True)
    rows = F.pad(torch.bincount(row, minlength=weight.shape[0]).cumsum(0), (1, 0)).to(torch.int32)
    columns = column.to(torch.int32).to(torch.uint16)
    return Matrix((weight.shape[0], weight.shape[1]), weight[row, column], columns, rows)


class BertForSequenceClassification(nn.Module):
    """Stands in for transformers' class of this name (pipelines look for the name). CPU, fp32, inference alone."""

    def __init__(self, packed: Packed) -> None:
        super().__init__()
        self.config = packed.config
        self.tables = {kind: packed.embeddings[f"bert.embeddings.{kind}_embeddings.weight"] for kind in _TABLES}
        self.others = {name: packed.others[name] for name in _KEPT}
        self.layers = [one for i in range(self.config.num_hidden_layers) for one in _layer(packed, i)]

    @property
    def device(self) -> torch.device:
        """Always the CPU."""
        return torch.device("cpu")

    @property
    def dtype(self) -> torch.dtype:
        """What it computes in."""
        return torch.float32

    def can_generate(self) -> bool:
        """No."""
        return False

    @torch.no_grad()
    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        labels: Tensor | None = None,
        return_dict: bool | None = None,
    ) -> Any:
        """(B, L) ids -> SequenceClassifierOutput with logits (B, C), and the loss if `labels` (B,) are given.

        With `return_dict` False a tuple. Raises ValueError for shapes that do not fit, for more positions than the
        model has, and for a mask without a sequence's first token (padding on the left).
        """
        hidden = self.first_tokens(input_ids, attention_mask, token_type_ids)
        pooled = self._dense("bert.pooler.dense", hidden).tanh_()
        logits = self._dense("classifier", pooled)
        loss = None if labels is None else self._loss(logits, labels)
        if return_dict is False:
            return (logits,) if loss is None else (loss, logits)
        from transformers.modeling_outputs import SequenceClassifierOutput

        return SequenceClassifierOutput(loss=loss, logits=logits)

    def first_tokens(self, ids: Tensor, mask: Tensor | None = None, types: Tensor | None = None) -> Tensor:
        """(B, L) -> the last layer's output at the first position of every sequence, (B, H)."""
        return self._encode(ids, mask, types, first_only=True)

    def tokens(self, ids: Tensor, mask: Tensor | None = None, types: Tensor | None = None) -> Tensor:
        """(B, L) -> the last layer's output at the T real tokens, (T, H), one sequence after the other."""
        return self._encode(ids, mask, types, first_only=False)

    def _dense(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self.others[f"{name}.weight"], self.others[f"{name}.bias"])

    def _encode(self, ids: Tensor, mask: Tensor | None, types: Tensor | None, first_only: bool) -> Tensor:
        self._check(ids, mask, types)
        batch, length = ids.shape
        place = torch.arange(length).expand(batch, length)
        lengths = [length] * batch
        if mask is not None and not bool(mask.all()):
            real = mask != 0
            if not bool(real[:, 0].all()):
                raise ValueError("attention_mask: the first token of every sequence must be real; pad on the right")
            lengths = real.sum(1).tolist()
            ids, place = ids[real], place[real]
            types = None if types is None else types[real]
        kinds = torch.zeros(1, dtype=torch.long) if types is None else types.reshape(-1)
        x = _looked_up(self.tables["word"], ids.reshape(-1))
        x += _looked_up(self.tables["token_type"], kinds)
        x += _looked_up(self.tables["position"], place.reshape(-1))
        gamma, beta = (self.others[f"bert.embeddings.LayerNorm.{kind}"] for kind in ("weight", "bias"))
        heads, eps = self.config.num_attention_heads, self.config.layer_norm_eps
        group = GROUP * torch.get_num_threads()
        return torch.ops.spd_ray.encoder(x, lengths, self.layers, gamma, beta, heads, eps, first_only, 0, group)

    def _check(self, ids: Tensor, mask: Tensor | None, types: Tensor | None) -> None:
        if ids.dim() != 2 or not ids.numel():
            raise ValueError(f"input_ids: (sequences, positions) are expected, got {tuple(ids.shape)}")
        if ids.shape[1] > self.config.max_position_embeddings:
            most = self.config.max_position_embeddings
            raise ValueError(f"input_ids: {ids.shape[1]} positions, the model has {most}")
        for name, other in {"attention_mask": mask, "token_type_ids": types}.items():
            if other is not None and other.shape != ids.shape:
                raise ValueError(f"{name}: {tuple(other.shape)} does not fit input_ids, {tuple(ids.shape)}")

    def _loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        kind = self.config.problem_type
        if kind == "regression" or (kind is None and self.config.num_labels == 1):
            return F.mse_loss(logits.squeeze(), labels.squeeze().to(logits.dtype))
        if kind == "single_label_classification" or (kind is None and not labels.is_floating_point()):
            return F.cross_entropy(logits, labels.view(-1))
        return F.binary_cross_entropy_with_logits(logits, labels)

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        """`.to(...)`: nothing moves, since nothing but the CPU and fp32 is served."""
        moved = fn(self.others["classifier.bias"])
        if moved.device.type != "cpu" or moved.dtype != torch.float32:
            raise UserError("a packed student runs on the CPU in fp32 alone; else load the dense checkpoint")
        return self


_TABLES = ("word", "position", "token_type")
_KEPT = [
    f"{name}.{kind}"
    for name in ("bert.embeddings.LayerNorm", "bert.pooler.dense", "classifier")
    for kind in ("weight", "bias")
]


def _looked_up(table: Rows, indices: Tensor) -> Tensor:
    """(T,) -> (T, H) fp32."""
    found = F.embedding(indices, table.weight).float()
    return found if table.scale is None else found * table.scale[indices][:, None]


def _layer(packed: Packed, index: int) -> list[Tensor]:
    """The twenty tensors of a layer, in the compiled encoder's order."""
    at = f"bert.encoder.layer.{index}"
    return [
        *_linear(packed, *(f"{at}.attention.self.{part}" for part in ("query", "key", "value"))),
        *_linear(packed, f"{at}.attention.output.dense"),
        *_linear(packed, f"{at}.intermediate.dense"),
        *_linear(packed, f"{at}.output.dense"),
        *(packed.others[f"{at}.attention.output.LayerNorm.{kind}"] for kind in ("weight", "bias")),
        *(packed.others[f"{at}.output.LayerNorm.{kind}"] for kind in ("weight", "bias")),
    ]


def _linear(packed: Packed, *names: str) -> list[Tensor]:
    """Values, columns, rows and bias of matrices one below the other."""
    matrices = [packed.matrices[f"{name}.weight"] for name in names]
    rows, kept = [matrices[0].rows[:1]], 0
    for one in matrices:
        rows.append(one.rows[1:] + kept)
        kept += len(one.values)
    columns = torch.cat([one.columns.view(torch.int16) for one in matrices]).view(torch.uint16)
    biases = torch.cat([packed.others[f"{name}.bias"] for name in names])
    return [torch.cat([one.values for one in matrices]), columns, torch.cat(rows), biases]
