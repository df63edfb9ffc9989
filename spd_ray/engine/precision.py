"""The arithmetic of fp32 matrices' products on a GPU: it decides bits, so the specification says which.

TF32 keeps fp32's range and 10 bits of its mantissa; only NVIDIA's tensor cores have it, so on a CPU it is fp32.

Why so: docs/decisions.md #tf32-and-bf16-are-asked-for.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch


def set_tf32(allowed: bool) -> None:
    """Whether this process multiplies fp32 matrices on a GPU in TF32, from now on."""
    torch.backends.cuda.matmul.fp32_precision = "tf32" if allowed else "ieee"


@contextmanager
def products_in(precision: Literal["fp32", "tf32", "bf16"], device: str) -> Iterator[None]:
    """Products of fp32 weights in `precision` for the block: in bf16 by torch's autocast, so weights stay fp32."""
    before = torch.backends.cuda.matmul.fp32_precision
    set_tf32(precision == "tf32")
    try:
        with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
            yield
    finally:
        torch.backends.cuda.matmul.fp32_precision = before
