"""Fine-tuning of a new classifier under one learning rate, which goes on from any epoch that it has finished.

Where this process belongs to a group, each rank computes its part of a batch, and all take the step of the whole.

Why so: docs/decisions.md #fine-tuning-goes-on.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, distributed, nn

from spd_ray.base.progress import Advance
from spd_ray.config.trial import TeacherConfig
from spd_ray.data.batches import EncodedTask, collate, epoch_batches
from spd_ray.engine import engine as engines
from spd_ray.engine.precision import products_in
from spd_ray.equations.losses import task_loss
from spd_ray.model.classifier import new_classifier

CLIP_NORM = 1.0
Tensors = dict[str, Tensor]


class States(Protocol):
    """Keeps what fine-tuning under one learning rate goes on from."""

    def load(self) -> Tensors | None:
        """What was kept last. None: fine-tuning begins."""

    def save_if_due(self, step: int, tensors: Callable[[], Tensors], at_end: bool) -> None:
        """Called after an epoch, at `step`; it may keep the `tensors`."""


StatesOf = Callable[[float], States]  # of a learning rate


def tuning_steps(config: TeacherConfig, data: EncodedTask) -> int:
    """Steps of fine-tuning, of all learning rates together."""
    steps = config.epochs * math.ceil(len(data.train) / config.batch_size)
    return 0 if config.is_given else steps * len(config.learning_rates)


def fine_tune(
    folder: Path,
    data: EncodedTask,
    config: TeacherConfig,
    learning_rate: float,
    advance: Advance,
    states: States | None = None,
) -> Any:
    """Train all parameters of a new classifier by AdamW, linear warm-up then linear decay to 0, gradients clipped.

    With `states`, of rank 0, it goes on from the last finished epoch that they have, to the same bits.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    rank, ranks = engines.rank(), engines.world_size()
    steps_per_epoch = math.ceil(len(data.train) / config.batch_size)
    steps, note, done = config.epochs * steps_per_epoch, f"learning rate {learning_rate:g}", 0
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(config.seed)
        model = new_classifier(folder, data.task, config.dropout).to(device).train()
        optimizer = adamw(model, config.weight_decay)
        if rank:  # another part of the batch, other dropout
            torch.manual_seed(config.seed + rank * 1_000_003)
        found = _from_rank_0(states.load() if states else None)
        if found:
            done = go_on(found, model, optimizer)
            advance(done * steps_per_epoch, note)
        for epoch in range(done, config.epochs):
            batches = epoch_batches(data.train.lengths, config.batch_size, config.seed, epoch)
            for step, indices in enumerate(batches, epoch * steps_per_epoch):
                for group in optimizer.param_groups:
                    group["lr"] = learning_rate * rate_factor(step, steps, config.warmup_fraction)
                own = indices[rank::ranks]
                batch = collate(data.train, own if len(own) else indices[:1], device)
                labels = batch.pop("labels")
                with products_in(config.precision, device):
                    loss = task_loss(model(**batch).logits.float(), labels) * (len(own) / len(indices))
                    loss.backward()
                _sum_gradients(model)
                nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
                optimizer.step()
                optimizer.zero_grad()
                advance(note=note)
            random = engines.gather_over_ranks(_random_numbers())
            if states:
                tensors = partial(all_tensors, model, optimizer, random, epoch + 1)
                states.save_if_due(step + 1, tensors, at_end=step + 1 == steps)
    model.set_attn_implementation("eager")
    return model.eval()


def all_tensors(model: nn.Module, optimizer: torch.optim.Optimizer, random: Sequence[Tensors], epochs: int) -> Tensors:
    """All that the next step depends on after so many epochs: weights, AdamW's moments, each rank's random numbers."""
    found = {f"weight.{name}": parameter.detach() for name, parameter in model.named_parameters()}
    for index, known in optimizer.state_dict()["state"].items():
        found |= {f"adamw.{index}.{key}": value for key, value in known.items()}
    for rank, numbers in enumerate(random):
        found |= {f"random.{rank}.{kind}": state for kind, state in numbers.items()}
    return {**found, "epochs": torch.tensor(epochs)}


@torch.no_grad()
def go_on(tensors: Tensors, model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Be where `all_tensors` found these, on as many devices of that kind; returns the epochs that were finished."""
    for name, parameter in model.named_parameters():
        parameter.copy_(tensors[f"weight.{name}"])
    known: dict[int, Tensors] = {}
    for name, tensor in tensors.items():
        kind, _, rest = name.partition(".")
        if kind == "adamw":
            index, _, key = rest.partition(".")
            known.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": known})
    torch.set_rng_state(tensors[f"random.{engines.rank()}.cpu"])
    if torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors[f"random.{engines.rank()}.cuda"])
    return int(tensors["epochs"])


def _random_numbers() -> Tensors:
    found = {"cpu": torch.get_rng_state()}
    return {**found, "cuda": torch.cuda.get_rng_state()} if torch.cuda.is_available() else found


def _sum_gradients(model: nn.Module) -> None:
    """The sum over ranks, on each of them."""
    if engines.world_size() > 1:
        gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        flat = engines.sum_over_ranks(nn.utils.parameters_to_vector(gradients))
        nn.utils.vector_to_parameters(flat, gradients)


def _from_rank_0(found: Tensors | None) -> Tensors | None:
    values = [found]
    if engines.world_size() > 1:
        distributed.broadcast_object_list(values)
    return values[0]


def rate_factor(step: int, steps: int, warmup_fraction: float) -> float:
    """The learning rate of `step` in [0, steps) over its peak.

    >>> [rate_factor(step, 6, 1 / 3) for step in range(6)]
    [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]
    """
    warmup = round(warmup_fraction * steps)
    return (step + 1) / warmup if step < warmup else (steps - step) / (steps - warmup)


def adamw(model: nn.Module, weight_decay: float) -> torch.optim.Optimizer:
    """AdamW on all parameters; biases and LayerNorm do not decay. The caller sets the learning rate."""
    matrices = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, fused=True)
