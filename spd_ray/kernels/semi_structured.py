"""2:4 matrices in torch's semi-structured format, which the sparse tensor cores of NVIDIA's GPUs multiply.

On a GPU this has not been run; the packing is torch's, and is tested on a CPU as far as torch does it there.

Why so: docs/decisions.md #patterns.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from spd_ray.base.errors import UserError
from spd_ray.equations.patterns import Pattern

TWO_OF_FOUR = Pattern(kept=2, group=4)
OLDEST = (8, 0)  # compute capability: Ampere, the first with sparse tensor cores
TYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}


def to_semi_structured(model: nn.Module, precision: Literal["fp16", "bf16"] = "fp16") -> nn.Module:
    """`model` on the GPU in `precision`, its 2:4 matrices packed; everything else stays dense.

    Raises UserError where no matrix is 2:4, where torch's format does not take one, and without such a GPU.
    """
    matrices = two_of_four(model)
    if not matrices:
        raise UserError('no matrix of this student is 2:4: method.pattern: "2:4" makes students whose matrices are')
    if not torch.cuda.is_available() or torch.cuda.get_device_capability() < OLDEST:
        raise UserError("2:4 matrices want an NVIDIA GPU of compute capability 8.0 or newer, and there is none")
    model = model.to("cuda", TYPES[precision]).eval().requires_grad_(False)
    for name, linear in matrices.items():
        try:
            packed = torch.sparse.to_sparse_semi_structured(linear.weight.detach().contiguous())
        except RuntimeError as error:
            raise UserError(f"{name}: torch's semi-structured format does not take it: {error}") from error
        linear.weight = nn.Parameter(packed, requires_grad=False)
    return model


def two_of_four(model: nn.Module) -> dict[str, nn.Linear]:
    """The linear layers whose matrix is 2:4, exactly, by name."""
    linears = ((name, one) for name, one in model.named_modules() if isinstance(one, nn.Linear))
    return {name: one for name, one in linears if one.in_features % 4 == 0 and is_two_of_four(one.weight)}


def is_two_of_four(weight: Tensor) -> bool:
    """Whether exactly 2 of 4 consecutive weights of each row are not 0."""
    return TWO_OF_FOUR.holds(weight != 0)
