"""AdamW with the reweighted L1 norm of `pruning: reweighted_l1`, and its 16-bit step on flat tensors, in few calls.

DeepSpeed 0.19's own 16-bit step at ZeRO 0 asks each gradient whether it is finite, one host read a parameter, and works
tensor by tensor: 4,000 calls of a step of 12 layers (docs/speed.md). Here a parameter group is one tensor.
"""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import torch
from deepspeed.runtime.fp16.fused_optimizer import FP16_Optimizer
from torch import Tensor, nn

from spd_ray.config.timeline import Timeline
from spd_ray.model import surgery

NORM_EPSILON = 1e-6  # DeepSpeed's, of the clipping coefficient
FLOOR = 0.1  # e, in deviations of the weights: what keeps the penalty of a weight near 0 finite


class ReweightedNorm(NamedTuple):
    """What the engine shrinks by until pruning ends: |w| by lr strength / (|w| + floor) a step.

    Of RPP (Guo et al. 2019), in units that fit any rate and length.
    """

    strength: float
    floor: float

    @classmethod
    def of(cls, timeline: Timeline, model: nn.Module) -> "ReweightedNorm":
        """The norm of `timeline.method` for the weights that `model` begins with.

        With s = `method.l1`, d the weights' deviation and x = |w| / d, strength = s d^2 / sum of the rates until
        pruning ends. Over all these steps x falls by s / (x + e): what lies within sqrt(e^2 + 2 s) - e deviations
        ends at 0 if no gradient pulls it back, whatever rates and steps are.
        """
        method = timeline.method
        if method.pruning != "reweighted_l1":
            return cls(0.0, 1.0)
        deviation = surgery.deviation(model)
        rates = sum(timeline.learning_rate(step) for step in range(timeline.pruning_end_step))
        return cls(method.l1 * deviation**2 / rates, FLOOR * deviation)

    def at(self, step: int, timeline: Timeline) -> "ReweightedNorm":
        """The norm at `step`: constant until pruning ends, then none."""
        return self if step < timeline.pruning_end_step else self._replace(strength=0.0)


class ProximalAdamW(torch.optim.AdamW):
    """AdamW, then the proximal operator of a reweighted L1 norm where a group's `l1` is above 0 (Guo et al. 2019).

    w <- sign(w) max(|w| - lr l1 / (|w| + l1_floor), 0), elementwise, so that it holds for flat partitions too.
    """

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One step of AdamW and one of the proximal operator."""
        loss = super().step(closure)
        for group in self.param_groups:
            if group["l1"] > 0:
                for parameter in group["params"]:
                    magnitude = parameter.abs()
                    shrunk = magnitude - group["lr"] * group["l1"] / (magnitude + group["l1_floor"])
                    parameter.copy_(parameter.sign() * shrunk.clamp_min(0))
        return loss


class Zeros:
    """Gradients of what has none: views of one tensor of zeros, as large as the largest of `parameters`."""

    def __init__(self, parameters: Iterable[Tensor]) -> None:
        largest = max(parameters, key=Tensor.numel)
        self._zeros = torch.zeros(largest.numel(), dtype=largest.dtype, device=largest.device)

    def like(self, parameter: Tensor) -> Tensor:
        """Zeros of the shape of `parameter`; they may be multiplied in place, but must stay zero."""
        return self._zeros[: parameter.numel()].view_as(parameter)


def clip_gradients(parameters: Iterable[nn.Parameter], limit: Tensor) -> Tensor:
    """Scale the gradients of fp32 `parameters` to a norm of `limit` (1,) at most; returns their norm, a scalar.

    To the last bit what DeepSpeed 0.19 does one by one.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norm = torch.stack(torch._foreach_norm(gradients, 2.0)).pow(2.0).sum().pow(0.5)
    torch._foreach_mul_(gradients, (limit / (norm + NORM_EPSILON)).clamp_max(1.0)[0])
    return norm


class FlatOptimizer(FP16_Optimizer):
    """DeepSpeed's optimizer of flat 16-bit groups with fp32 masters and loss scale, stepped by groups.

    A step whose gradients are not finite is skipped in fp16, which takes the one host read of a step. In bf16 it is
    taken, nothing is read, and `finite` () is false from then on: whoever reads losses asks for it.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, **settings: Any) -> None:
        super().__init__(optimizer, verbose=False, **settings)
        self._zeros = [Zeros(group) for group in self.fp16_groups]
        self.finite = torch.ones((), dtype=torch.bool, device=self.fp32_groups_flat[0].device)

    @torch.no_grad()
    def step(self, closure: Any = None) -> bool:
        """Unscale, clip and apply the gradients, unless they overflowed; returns whether they did."""
        gradients = [self._flat_gradient(index).float() for index in range(len(self.fp16_groups))]
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients, 2.0)))  # of scaled gradients
        if not self.loss_scale_config.use_grad_scaling:
            self.finite.logical_and_(norm.isfinite())
        elif not norm.isfinite().item():
            return self._skip_invalid_grad_norm()
        scale = self.loss_scale_config.cur_scale
        clipped = ((norm / scale + NORM_EPSILON) / self.clip_grad).clamp_min(1.0) if self.clip_grad > 0 else 1.0
        torch._foreach_mul_(gradients, 1.0 / (clipped * scale))
        self.overflow = False
        self._update_scale(False)
        for master, gradient in zip(self.fp32_groups_flat, gradients, strict=True):
            master.grad = gradient
        self.optimizer.step()
        for master in self.fp32_groups_flat:
            master.grad = None
        torch._foreach_copy_(self.fp16_groups_flat, self.fp32_groups_flat)
        return False

    def _flat_gradient(self, index: int) -> Tensor:
        """The gradients of group `index` as one 16-bit tensor, zeros where there is none; it takes their place."""
        zeros, group = self._zeros[index], self.fp16_groups[index]
        gradients = [zeros.like(one) if one.grad is None else one.grad for one in group]
        for parameter in group:
            parameter.grad = None
        return torch.cat([gradient.reshape(-1) for gradient in gradients])

    def masters(self) -> Iterator[tuple[nn.Parameter, tuple[Tensor, dict[str, Tensor]]]]:
        """Each parameter with its part of the masters and, by name, of AdamW's moments."""
        for parameters, flat in zip(self.fp16_groups, self.fp32_groups_flat, strict=True):
            state = self.optimizer.state[flat]
            tensors = {name: tensor for name, tensor in state.items() if tensor.shape == flat.shape}
            start = 0
            for parameter in parameters:
                end = start + parameter.numel()
                parts = {name: tensor[start:end].view_as(parameter) for name, tensor in tensors.items()}
                yield parameter, (flat.data[start:end].view_as(parameter), parts)
                start = end
