"""The terms of Eq. (4), Huang et al. 2022, as means over real tokens: padding changes nothing.

Shapes: B examples, L positions, H hidden size, A heads, C classes. `tokens` (B, L) is bool, True for a real
token. Every term is computed in fp32 and returns a scalar.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def hidden_loss(student: Tensor, teacher: Tensor, tokens: Tensor) -> Tensor:
    """L_hidn = MSE(H^T, H^S) over the real positions of (B, L, H) hidden states.

    Departs from: the public code's mean includes padding positions.
    """
    squared = (student.float() - teacher.float()).square().mean(dim=-1)  # (B, L)
    return squared.masked_fill(~tokens, 0.0).sum() / tokens.sum()


def attention_loss(student: Tensor, teacher: Tensor, tokens: Tensor) -> Tensor:
    """L_attn = MSE(A^T, A^S) over the pairs of real positions of (B, A, L, L) attention maps."""
    pairs = tokens.unsqueeze(2) & tokens.unsqueeze(1)  # (B, L, L)
    squared = (student.float() - teacher.float()).square().mean(dim=1)  # (B, L, L)
    return squared.masked_fill(~pairs, 0.0).sum() / pairs.sum()


def prediction_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """L_pred = -softmax(z^T) . log_softmax(z^S / temperature), mean over B, for (B, C) logits.

    As the paper prints it, the temperature divides the student's logits alone. With one output (regression)
    there is no distribution to compare: the term is MSE(z^T, z^S).

    Departs from: the public code averages over classes too and replaces the regression term by the labels.
    """
    if student.shape[-1] == 1:
        return F.mse_loss(student.float(), teacher.float())
    log_probabilities = torch.log_softmax(student.float() / temperature, dim=-1)
    return -(torch.softmax(teacher.float(), dim=-1) * log_probabilities).sum(dim=-1).mean()


def task_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of (B, C) logits with integer labels (B,), or MSE of (B, 1) with real ones."""
    if logits.shape[-1] == 1:
        return F.mse_loss(logits.squeeze(-1).float(), labels.float())
    return F.cross_entropy(logits.float(), labels)
