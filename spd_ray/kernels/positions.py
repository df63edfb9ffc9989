"""Where kept weights are, in bytes: gaps or a bit mask, and what no index could be smaller than."""

import math

import numpy as np

ESCAPE = 255  # a gap byte that stands for 255 zeros and no kept weight


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
