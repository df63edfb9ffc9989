"""Encoder layers as compiled graphs, which all layers, batches and trials of a process share.

A layer's weights and masks are inputs of its graph; batch size and width are left open. So there is a graph for each
kind of layer (the student's, the teacher's), for inputs with a gradient and without, and for each rate of dropout; the
draw of Eq. (1) chooses layers outside of them.

Why so: docs/decisions.md #compiled-layers.
"""

import os
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch._dynamo import maybe_mark_dynamic
from torch._inductor.runtime.cache_dir_utils import cache_dir, default_cache_dir
from torch.utils._pytree import tree_leaves

from spd_ray.base.cache import cache_root
from spd_ray.model.attention import LayerOutputs

BACKEND = "inductor"  # of torch.compile, in trials
CAPTURE = "eager"  # nothing is compiled: whether a layer is one graph
MOST_GRAPHS = 256  # torch gives up after 8, which a few rates of dropout would use up


def run_layer(layer: nn.Module, hidden: Tensor, *args: Any, **kwargs: Any) -> LayerOutputs:
    """What `layer` makes of (B, L, H) hidden states; the other arguments are transformers'."""
    seen: list[tuple[Tensor, Tensor]] = []
    hidden = layer(hidden, *args, spd_seen=seen, **kwargs)
    return LayerOutputs(hidden, *seen[-1])


def layer_function(backend: str | None) -> Callable[..., LayerOutputs]:
    """`run_layer`, compiled where a `backend` of torch.compile is named."""
    return run_layer if backend is None else partial(run_compiled_layer, backend)


def run_compiled_layer(backend: str, layer: nn.Module, hidden: Tensor, *args: Any, **kwargs: Any) -> LayerOutputs:
    """`run_layer` by its graph. Raises torch's own error where the layer is not one graph."""
    _leave_open(hidden, (args, kwargs))
    return _compiled(backend)(layer, hidden, *args, **kwargs)


@cache
def _compiled(backend: str) -> Any:
    """`run_layer` compiled, one for the process; what was compiled is kept in the cache's folder."""
    if cache_dir() == os.path.abspath(default_cache_dir()):  # in /tmp, where it is lost, and anybody's name
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(cache_root() / "compiled")
    torch._dynamo.config.recompile_limit = max(MOST_GRAPHS, torch._dynamo.config.recompile_limit)
    return torch.compile(run_layer, backend=backend, fullgraph=True, dynamic=False)


def _leave_open(hidden: Tensor, others: Any) -> None:
    """Let the graph take any batch size and width, wherever they are sizes of its inputs."""
    opens = hidden.shape[:2]
    maybe_mark_dynamic(hidden, (0, 1))
    for tensor in tree_leaves(others):
        if isinstance(tensor, Tensor):
            maybe_mark_dynamic(tensor, [index for index, size in enumerate(tensor.shape) if size in opens])
