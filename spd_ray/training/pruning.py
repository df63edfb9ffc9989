"""Pruning in training: a criterion's statistics from step to step, the pruning events, and what grows again at them.

Why so: docs/decisions.md #gradients-for-a-criterion, #masks-that-grow-again.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from spd_ray.config.timeline import Timeline
from spd_ray.engine import engine as engines
from spd_ray.engine import engine_state
from spd_ray.engine.engine_state import Change
from spd_ray.equations import criteria, regrowth
from spd_ray.equations.criteria import Statistics
from spd_ray.equations.criterion_table import Function
from spd_ray.model import surgery
from spd_ray.model.linear import MaskedLinear

# Of so many batches, those of this rank: of each its parts' losses, yet to be computed; the batch's is their mean.
Losses = Callable[[int], Iterator[Sequence[Callable[[], Tensor]]]]

ACTIVE = "active"  # the statistic of exploration: how many events have left a weight in the mask


def _function(row: Function | None) -> Callable[..., Any]:
    """What a criterion's row names."""
    assert row is not None
    return row if callable(row) else getattr(criteria, row)


class Pruner:
    """The pruning of one run, the same on all of its ranks.

    A criterion that reads steps gets weight x gradient of each applied step: of the loss's gradient before clipping,
    without the loss scale, of the whole batch, and of the layers that the step's draw grafts.
    """

    def __init__(
        self,
        timeline: Timeline,
        engine: engines.Engine,
        layers: Sequence[surgery.GraftedLayer],
        initial: dict[str, Tensor],
    ) -> None:
        """`initial` are the weights that lottery tickets rewind to, by name."""
        self._timeline, self._engine, self._initial = timeline, engine, initial
        self._criterion = timeline.method.criterion_row
        self._regrowth = timeline.method.regrowth
        self._settings = timeline.method.criterion.model_dump()
        self._layers = [[linear for _, linear in surgery.masked_linears(layer)] for layer in layers]
        self._linears = dict(surgery.masked_linears(engine.module))
        self._products: dict[MaskedLinear, Tensor] = {}  # of the attempt at a step that is under way
        self._scale: float | None = None  # the loss scale of that attempt; None: nothing is collected
        if self._criterion.reads == "steps":
            for linear in self._linears.values():
                linear.weight.register_hook(partial(self._collect, linear))

    def begin_step(self, step: int, loss_scale: float) -> None:
        """Before the first backward of an attempt at `step`: what an earlier attempt left is forgotten."""
        self._products.clear()
        if self._criterion.reads == "steps" and step < self._timeline.pruning_end_step:
            self._scale = loss_scale

    @torch.no_grad()
    def _collect(self, linear: MaskedLinear, gradient: Tensor) -> None:
        """A hook on the weight, called once a backward: DeepSpeed has not touched this rank's gradient yet."""
        if self._scale is None:
            return
        product = linear.weight.float() * (gradient.float() / self._scale)
        earlier = self._products.get(linear)
        self._products[linear] = product if earlier is None else earlier + product

    def end_step(self, draw: surgery.Draw) -> None:
        """After a step was applied under `draw`."""
        if self._scale is None:
            return
        self._scale = None
        for linears in (linears for linears, grafted in zip(self._layers, draw, strict=True) if grafted):
            for linear in linears:
                if (product := self._products.pop(linear, None)) is not None:
                    linear.statistics |= self._update(linear.statistics, engines.mean_over_ranks(product))
        self._products.clear()

    def _update(self, statistics: Statistics, seen: Tensor) -> dict[str, Tensor]:
        return _function(self._criterion.update)(seen, statistics, self._settings)

    def event(self, step: int, losses: Losses) -> None:
        """The pruning event that is due after `step` applied steps; lottery tickets rewind what is left."""
        method, kind, rate = self._timeline.method, self._regrowth.kind, self._timeline.pruning_rate(step)
        statistics = {name: linear.statistics for name, linear in self._linears.items()}
        if self._criterion.reads == "events":
            statistics = self._read_gradients(losses)
        growth = self._growth(step, losses) if kind in ("gradient", "exploration") else None
        with torch.no_grad(), engine_state.whole_parameters(self._engine):
            before = {name: linear.mask.clone() for name, linear in self._linears.items()}
            plain = self._criterion.reads == "weights" and growth is None
            scores = None if plain else self._scores(statistics)
            if scores is not None and growth is not None:
                self._exchange(step, scores, growth)
            else:
                if scores is not None and self._criterion.thresholded and step < self._timeline.pruning_events[-1].step:
                    masks = (linear.mask for linear in self._linears.values())
                    passing = criteria.passing_share(scores.values(), masks, method.criterion.threshold)
                    rate = min(1.0 - passing, self._timeline.final_sparsity)
                surgery.prune(self._engine.module, rate, method.prunes_globally, scores, method.zeros)
            if kind == "partitions":
                self._make_dense(step)
            self._change_weights(before, statistics)
        if kind == "exploration":
            for linear in self._linears.values():
                counted = linear.statistics.get(ACTIVE, torch.zeros_like(linear.mask, dtype=torch.float32))
                linear.statistics[ACTIVE] = counted + linear.mask
        if method.pruning == "lottery":
            engine_state.rewind(self._engine, self._initial)

    def _scores(self, statistics: Mapping[str, Statistics]) -> dict[str, Tensor]:
        """By matrix; rank 0's, so that ranks whose processors round differently keep the same weights."""
        score = _function(self._criterion.score)
        scores = {
            name: score(linear.weight.detach(), statistics[name], self._settings)
            for name, linear in self._linears.items()
        }
        for own in scores.values():
            engines.take_from_rank_0(own)
        return scores

    def _read_gradients(self, losses: Losses) -> dict[str, dict[str, Tensor]]:
        """Statistics of the gradients of batches, which ranks share out; a rank without one adds zeros."""
        weights = [linear.weight for linear in self._linears.values()]
        found: dict[str, dict[str, Tensor]] = {name: {} for name in self._linears}
        for gradients in self._gradients(losses(self._timeline.method.criterion.gradients), weights):
            for name, gradient in zip(found, gradients, strict=True):
                found[name] = self._update(found[name], gradient)
        for name, weight in zip(found, weights, strict=True):
            found[name] = found[name] or self._update({}, torch.zeros_like(weight, dtype=torch.float32))
            for statistic in found[name].values():
                engines.sum_over_ranks(statistic)
        return found

    def _growth(self, step: int, losses: Losses) -> dict[str, Tensor]:
        """By matrix, how much a weight asks to come back; rank 0's numbers count."""
        count, bonus = self._regrowth.gradients, self._regrowth.bonus if self._regrowth.kind == "exploration" else 0.0
        for linear in self._linears.values():
            linear.probe = (linear.weight * linear.mask).detach().requires_grad_()
        probes = [linear.probe for linear in self._linears.values() if linear.probe is not None]
        total = [torch.zeros_like(probe, dtype=torch.float32) for probe in probes]
        try:
            for gradients in self._gradients(losses(count), probes):
                torch._foreach_add_(total, gradients, alpha=1 / count)
        finally:
            for linear in self._linears.values():
                linear.probe = None
        growth = {}
        for (name, linear), gradient in zip(self._linears.items(), total, strict=True):
            active = linear.statistics.get(ACTIVE, torch.zeros_like(gradient))
            engines.sum_over_ranks(gradient)
            growth[name] = regrowth.exploration_score(gradient, active, step, bonus, self._regrowth.epsilon)
            engines.take_from_rank_0(growth[name])
        return growth

    def _exchange(self, step: int, scores: Mapping[str, Tensor], growth: Mapping[str, Tensor]) -> None:
        """Prune and let as many weights grow as give way: in each matrix, or in all of them together."""
        rate = self._timeline.pruning_rate(step)
        share = regrowth.exchanged_share(step, self._timeline.pruning_end_step, self._regrowth.share)
        names = list(self._linears)
        for group in [names] if self._timeline.method.prunes_globally else [[name] for name in names]:
            linears = [self._linears[name] for name in group]
            own, grows = (torch.cat([table[name].flatten() for name in group]) for table in (scores, growth))
            mask = torch.cat([linear.mask.flatten() for linear in linears])
            parts = regrowth.exchanged_mask(own, grows, mask, rate, share).split([one.mask.numel() for one in linears])
            masks = [part.view_as(one.mask) for part, one in zip(parts, linears, strict=True)]
            surgery.set_masks(linears, masks)

    def _make_dense(self, step: int) -> None:
        """Of the partitions of layers the one whose turn it is keeps all; at the last event none."""
        events, layers = self._timeline.pruning_events, self._layers
        turn = next(index for index, event in enumerate(events) if event.step == step)
        if turn + 1 < len(events):
            for index in regrowth.partition(turn, len(layers), self._regrowth.partitions):
                surgery.set_masks(layers[index], [torch.ones_like(linear.mask) for linear in layers[index]])

    def _change_weights(self, before: Mapping[str, Tensor], statistics: Mapping[str, Statistics]) -> None:
        """Weights that have come back since the masks were `before` begin at 0; others may make up for pruned ones."""
        compensates = self._criterion.compensate and self._timeline.method.criterion.compensate
        changes = {}
        for name, linear in self._linears.items() if compensates or self._regrowth.kind != "none" else ():
            added, fresh = None, linear.mask & ~before[name]
            if compensates:
                kept = linear.weight.float() * before[name]
                gone = before[name] & ~linear.mask
                added = _function(self._criterion.compensate)(kept, gone, statistics[name], self._settings)
                engines.take_from_rank_0(added)
            changes[f"{name}.weight"] = Change(added, fresh if self._regrowth.kind != "none" else None)
        if changes:
            engine_state.change_weights(self._engine, changes)

    def _gradients(
        self, batches: Iterator[Sequence[Callable[[], Tensor]]], leaves: Sequence[Tensor]
    ) -> Iterator[list[Tensor]]:
        """The gradient of each batch's loss by each of `leaves`, in fp32; hooks and engine do not see it."""
        for parts in batches:
            total = [torch.zeros_like(leaf, dtype=torch.float32) for leaf in leaves]
            for part in parts:
                torch._foreach_add_(total, self._gradient(part(), leaves), alpha=1 / len(parts))
            yield total

    def _gradient(self, loss: Tensor, leaves: Sequence[Tensor]) -> list[Tensor]:
        """In fp16 of the scaled loss, at the next lower scale where that overflows."""
        scale = engines.loss_scale(self._engine)
        while True:
            scaled = loss if scale == 1.0 else loss * scale
            found = torch.autograd.grad(scaled, leaves, retain_graph=scale > 1.0, materialize_grads=True)
            gradients = [gradient.float() / scale for gradient in found]
            if scale <= 1.0 or all(bool(gradient.isfinite().all()) for gradient in gradients):
                return gradients
            scale /= 2
