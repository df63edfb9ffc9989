"""The terms of Eq. (4), Huang et al. 2022, and those of other distillation methods, as means over real tokens.

Shapes: B examples, L positions, H hidden size, A heads, d = H / A, C classes. `tokens` says which of the (B, L)
positions hold a real token: padding changes nothing. Every term is computed in fp32 and returns a scalar.

Why so: docs/decisions.md #temperature, #padding.
"""

from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor


class RealTokens:
    """Which of (B, L) positions are real, and what means over them need: made once for all layers and terms."""

    def __init__(self, real: Tensor) -> None:
        self.real = real  # (B, L) bool

    @cached_property
    def padding(self) -> Tensor:
        """(B, L) bool, True for a padded position."""
        return ~self.real

    @cached_property
    def count(self) -> Tensor:
        """The number of real positions."""
        return self.real.sum()

    @cached_property
    def pairs(self) -> "RealTokens":
        """The pairs (B, L, L) of real positions."""
        return RealTokens(self.real.unsqueeze(2) & self.real.unsqueeze(1))

    def at(self, rows: Tensor) -> "RealTokens":
        """Those of the examples at `rows`."""
        return RealTokens(self.real[rows])


def over_tokens(values: Tensor, tokens: RealTokens) -> Tensor:
    """The mean of (B, L) values over the real positions."""
    return values.masked_fill(tokens.padding, 0.0).sum() / tokens.count


def hidden_loss(student: Tensor, teacher: Tensor, tokens: RealTokens) -> Tensor:
    """L_hidn = MSE(H^T, H^S) over the real positions of (B, L, H) hidden states.

    Departs from: the public code's mean includes padding positions.
    """
    return over_tokens(F.mse_loss(student.float(), teacher.float(), reduction="none").mean(dim=-1), tokens)


def attention_loss(student: Tensor, teacher: Tensor, tokens: RealTokens) -> Tensor:
    """L_attn = MSE(A^T, A^S) over the pairs of real positions of (B, A, L, L) attention maps."""
    squared = F.mse_loss(student.float(), teacher.float(), reduction="none").mean(dim=1)  # (B, L, L)
    return over_tokens(squared, tokens.pairs)


def prediction_loss(
    student: Tensor, teacher: Tensor, temperature: float, on_both: bool = False, average_classes: bool = False
) -> Tensor:
    """L_pred = -softmax(z^T) . log_softmax(z^S / T), mean over B, for (B, C) logits.

    As the paper prints it, the temperature T divides the student's logits alone; `on_both`: the teacher's too, and
    the term is multiplied by T^2 (Hinton et al. 2015, arXiv:1503.02531). With one output (regression) there is no
    distribution to compare: the term is MSE(z^T, z^S). `average_classes` divides by C.

    Departs from: the public code averages over classes too and compares regression with the labels.
    """
    if student.shape[-1] == 1:
        return F.mse_loss(student.float(), teacher.float())
    log_probabilities = torch.log_softmax(student.float() / temperature, dim=-1)
    probabilities = torch.softmax(teacher.float() / (temperature if on_both else 1.0), dim=-1)
    loss = -(probabilities * log_probabilities).sum(dim=-1).mean()
    return loss * (temperature**2 if on_both else 1.0) / (student.shape[-1] if average_classes else 1)


def task_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of (B, C) logits with integer labels (B,), or MSE of (B, 1) with real ones."""
    if logits.shape[-1] == 1:
        return F.mse_loss(logits.squeeze(-1).float(), labels.float())
    return F.cross_entropy(logits.float(), labels)


def first_token_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """(h^S / |h^S| - h^T / |h^T|)^2 of the first token of (B, L, H) states, mean over B and H (PKD, Sun et al. 2019).

    Departs from: the paper's formula, a sum over H; its published code takes the mean, and so are its weights meant.
    """
    return F.mse_loss(F.normalize(student[:, 0].float(), dim=-1), F.normalize(teacher[:, 0].float(), dim=-1))


def cosine_loss(student: Tensor, teacher: Tensor, tokens: RealTokens) -> Tensor:
    """1 - cos(h^S, h^T), mean over the real positions of (B, L, H) states (Sanh et al. 2019, L_cos)."""
    return over_tokens(1.0 - F.cosine_similarity(student.float(), teacher.float(), dim=-1), tokens)


def relation_loss(student: Tensor, teacher: Tensor, tokens: RealTokens) -> Tensor:
    """KL(softmax(R^T) || softmax(R^S)) of (B, A, L, L) relation scores (MiniLM, Wang et al. 2020).

    The softmax runs over the real keys, the mean over heads and real queries.
    """
    hidden = tokens.padding[:, None, None, :]  # keys
    log_s, log_t = (torch.log_softmax(r.float().masked_fill(hidden, -torch.inf), dim=-1) for r in (student, teacher))
    difference = (log_t.exp() * (log_t - log_s)).masked_fill(hidden, 0.0)
    return over_tokens(difference.sum(dim=-1).mean(dim=1), tokens)


def value_relation_loss(student: Tensor, teacher: Tensor, tokens: RealTokens) -> Tensor:
    """The relation loss of the value scores of (B, A, L, d) values (MiniLM, Wang et al. 2020)."""
    return relation_loss(value_scores(student), value_scores(teacher), tokens)


def value_scores(value: Tensor) -> Tensor:
    """V V^T / sqrt(d) of (B, A, L, d) values: (B, A, L, L) (MiniLM, Wang et al. 2020)."""
    return value.float() @ value.float().transpose(-1, -2) / value.shape[-1] ** 0.5


def consistency_loss(mixed: Tensor, plain: Tensor, partner: Tensor, share: float, tokens: RealTokens) -> Tensor:
    """share MSE(h(mix), h(x_i)) + (1 - share) MSE(h(mix), h(x_j)) of (B, L, H) states; the targets get no gradient.

    `mixed` are the states for share x_i + (1 - share) x_j, `partner` (B,) names each j (Ko et al. 2023).
    """
    target = plain.detach()
    to_first = hidden_loss(mixed, target, tokens)
    return share * to_first + (1.0 - share) * hidden_loss(mixed, target[partner], tokens.at(partner))
