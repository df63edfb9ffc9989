"""The student's masked linears: dense with zeros, or computed from the kept weights alone where that is faster.

Why so: docs/decisions.md #when-training-is-sparse, #mask-in-forward.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spd_ray.kernels.build import available
from spd_ray.kernels.masked import KeptLinear, masked_linear
from spd_ray.kernels.products import MOST_COLUMNS, Pattern


class MaskedLinear(nn.Linear):
    """F.linear(x, weight * mask): pruned weights get no gradient and cannot come back through the optimizer.

    From the sparsity `sparse_from` on it is computed by sparse kernels: after a change of the mask call `index_kept`.
    """

    mask: Tensor
    sparse_from: float | None = None  # None: never
    probe: Tensor | None = None  # computed with in the place of weight * mask: its gradient is dense
    _pattern: Pattern | None = None
    statistics: dict[str, Tensor]  # of the criterion, fp32, of the weight's shape; part of a trial's state

    @classmethod
    def of(cls, linear: nn.Linear) -> "MaskedLinear":
        """A masked layer over the same parameters, nothing pruned yet."""
        masked = cls(linear.in_features, linear.out_features, linear.bias is not None, device="meta")
        masked.weight, masked.bias = linear.weight, linear.bias
        masked.statistics, masked.probe, masked._pattern = {}, None, None  # alike in all layers: one graph
        masked.register_buffer("mask", torch.ones_like(linear.weight, dtype=torch.bool))
        return masked

    def index_kept(self) -> None:
        """Look at the mask anew: above `sparse_from`, in fp32 on a CPU that has the kernels, its index is built."""
        self._pattern = Pattern.of(self.mask) if self._wants_kernels() else None

    def _wants_kernels(self) -> bool:
        if self.sparse_from is None or (self.weight.device.type, self.weight.dtype) != ("cpu", torch.float32):
            return False
        sparsity = 1.0 - int(self.mask.sum()) / self.mask.numel()
        return sparsity >= self.sparse_from and max(self.mask.shape) <= MOST_COLUMNS and available()

    @property
    def kept(self) -> KeptLinear | None:
        """What the sparse kernels compute with; None where the dense product is computed."""
        return (
            None
            if self._pattern is None or self.probe is not None
            else KeptLinear(self.weight, self.bias, self._pattern)
        )

    def forward(self, input: Tensor) -> Tensor:
        """(..., in_features) -> (..., out_features)."""
        kept = self.kept
        if kept is not None:
            return masked_linear(input, kept)
        return F.linear(input, self.weight * self.mask if self.probe is None else self.probe, self.bias)
