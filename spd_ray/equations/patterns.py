"""Patterns of zeros, and the projection of Eq. (3), Huang et al. 2022, onto the matrices that have one.

`single`: any weight may go. `n:m`: of m consecutive weights of a row at least n stay, and at the end exactly n do.
`RxC`: blocks of R rows and C columns stay or go whole. A matrix is ranked in *units*, which `units` makes of its scores
and `of_units` makes a mask again: between them stand the functions of `masks`, for one matrix or for all together.

With the scores `magnitudes` this is the projection: the nearest matrix, in the sum of squared differences, that has
the pattern, as many zeros as asked, and zeros where `mask` has them. For n:m the constraint is a partition matroid, on
which going by the smallest first is optimal; for blocks the squares of a block add up to what its zeros cost.

Why so: docs/decisions.md #patterns.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:  # a space names its pattern, and is read in less time than torch takes
    from torch import Tensor


class Pattern(NamedTuple):
    """Of `group` consecutive weights of a row at least `kept` stay; what stays or goes together: `rows` x `columns`."""

    kept: int = 0
    group: int = 1
    rows: int = 1
    columns: int = 1

    @classmethod
    def parse(cls, text: str) -> Pattern:
        """Raises ValueError for what is no pattern.

        >>> Pattern.parse("single"), Pattern.parse("2:4"), Pattern.parse("4x8")
        (Pattern(kept=0, group=1, rows=1, columns=1), Pattern(kept=2, group=4, rows=1, columns=1), \
Pattern(kept=0, group=1, rows=4, columns=8))
        """
        found = re.fullmatch(r"([1-9][0-9]?):([1-9][0-9]?)|([1-9][0-9]?)x([1-9][0-9]?)", text)
        if text == "single":
            return cls()
        if found and found[1] and int(found[1]) < int(found[2]):
            return cls(kept=int(found[1]), group=int(found[2]))
        if found and found[3]:
            return cls(rows=int(found[3]), columns=int(found[4]))
        raise ValueError("must be single, n:m with n below m, such as 2:4, or blocks RxC, such as 4x4")

    @property
    def sparsity(self) -> float | None:
        """The only sparsity that the pattern ends at; None: it has any."""
        return (self.group - self.kept) / self.group if self.kept else None

    def divides(self, shape: tuple[int, ...]) -> bool:
        """Whether a matrix of that shape is made of whole groups and blocks.

        >>> Pattern.parse("2:4").divides((3, 8)), Pattern.parse("4x8").divides((6, 8))
        (True, False)
        """
        return shape[0] % self.rows == 0 and shape[1] % (self.group * self.columns) == 0

    def magnitudes(self, weight: Tensor) -> Tensor:
        """By which scores weights are ranked in Eq. (3): |w|, and w^2 where the costs of a block's zeros add up."""
        whole = self.rows * self.columns > 1
        return weight.detach().float().square() if whole else weight.detach().abs()

    def zeros_asked(self, numel: int, sparsity: float) -> int:
        """How many of `numel` weights are zero at `sparsity`: of whole blocks the nearest number.

        >>> Pattern().zeros_asked(4096, 0.9), Pattern.parse("4x4").zeros_asked(4096, 0.9)
        (3686, 3680)
        """
        size = self.rows * self.columns
        return round(sparsity * (numel // size)) * size

    def units(self, scores: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """The scores and the mask of what is ranked, for (rows, columns) `scores` and `mask`.

        The `kept` highest scores of each group's kept weights become infinite: they stay. A block's score is the sum.

        >>> import torch
        >>> scores, mask = torch.tensor([[4.0, 1.0, 2.0, 3.0]]), torch.tensor([[True, True, True, True]])
        >>> Pattern.parse("2:4").units(scores, mask)[0].tolist(), Pattern.parse("1x2").units(scores, mask)[0].tolist()
        ([[inf, 1.0, 2.0, inf]], [[5.0, 5.0]])
        """
        if self.kept:
            grouped = scores.masked_fill(~mask, -math.inf).view(-1, self.group)
            best = grouped.argsort(dim=1, descending=True, stable=True)[:, : self.kept]
            stays = mask.new_zeros(grouped.shape).scatter_(1, best, True).view_as(mask)
            return scores.masked_fill(stays & mask, math.inf), mask
        if self.rows * self.columns == 1:
            return scores, mask
        return self._blocks(scores).sum(dim=(1, 3)), self._blocks(mask).all(dim=3).all(dim=1)

    def of_units(self, mask: Tensor) -> Tensor:
        """The mask of the weights, for the mask of their units."""
        return mask.repeat_interleave(self.rows, dim=0).repeat_interleave(self.columns, dim=1)

    def _blocks(self, matrix: Tensor) -> Tensor:
        """(rows, columns) -> (rows / R, R, columns / C, C)."""
        rows, columns = matrix.shape
        return matrix.view(rows // self.rows, self.rows, columns // self.columns, self.columns)

    def holds(self, kept: Tensor) -> bool:
        """Whether a matrix with these weights `kept` (bool) has the pattern as it is at the end.

        >>> import torch
        >>> Pattern.parse("2:4").holds(torch.tensor([[True, False, True, False]]))
        True
        >>> Pattern.parse("1x2").holds(torch.tensor([[True, False, True, False]]))
        False
        """
        if self.kept:
            return bool((kept.view(-1, self.group).sum(dim=1) == self.kept).all())
        blocks = self._blocks(kept)
        return bool((blocks.amax(dim=(1, 3)) == blocks.amin(dim=(1, 3))).all())


SINGLE = Pattern()  # any weight
