"""Masked linears from their kept weights against the dense product with its mask: values, gradients, and when."""

import copy
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers import BertConfig
from transformers.models.bert.modeling_bert import BertLayer

from spd_ray.kernels import build, crossover
from spd_ray.kernels.masked import KeptLinear, masked_feed_forward, masked_linear
from spd_ray.kernels.products import Pattern
from spd_ray.model.linear import MaskedLinear, join_feed_forward

compiled = pytest.mark.skipif(not build.available(), reason=str(build.unavailable_because()))
settings.register_profile("few", max_examples=25, deadline=None)


def matrix(out: int, inputs: int, sparsity: float) -> tuple[Tensor, Tensor, Tensor]:
    """Weight, bias and mask."""
    weight, bias = torch.randn(out, inputs) / inputs**0.5, torch.randn(out)
    return weight.requires_grad_(), bias.requires_grad_(), torch.rand(out, inputs) >= sparsity


def gradients(y: Tensor, arguments: list[Tensor]) -> list[Tensor]:
    up = torch.randn(y.shape, generator=torch.Generator().manual_seed(1))
    return [y, *torch.autograd.grad(y, arguments, up.to(y.dtype))]


def in_double(*tensors: Tensor) -> list[Tensor]:
    return [tensor.detach().double().requires_grad_() for tensor in tensors]


def check(found: list[Tensor], wanted: list[Tensor]) -> None:
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one.double(), other, atol=2e-5, rtol=2e-5)


@compiled
@settings(settings.get_profile("few"))
@given(
    out=st.integers(1, 70), inputs=st.integers(1, 70), batch=st.integers(1, 3), length=st.integers(1, 50),
    sparsity=st.sampled_from([0.0, 0.5, 0.9, 1.0]), seed=st.integers(0, 99),
)  # fmt: skip
def test_linear(out: int, inputs: int, batch: int, length: int, sparsity: float, seed: int) -> None:
    torch.manual_seed(seed)
    weight, bias, mask = matrix(out, inputs, sparsity)
    x = torch.randn(batch, length, inputs, requires_grad=True)
    found = gradients(masked_linear(x, KeptLinear(weight, bias, Pattern.of(mask))), [x, weight, bias])
    dense = in_double(x, weight, bias)
    check(found, gradients(F.linear(dense[0], dense[1] * mask, dense[2]), dense))
    assert not found[2][~mask].any()


@compiled
@settings(settings.get_profile("few"))
@given(
    features=st.integers(1, 70), inputs=st.integers(1, 40), tokens=st.integers(1, 130),
    sparsity=st.sampled_from([0.5, 0.9]), seed=st.integers(0, 99),
)  # fmt: skip
def test_feed_forward(features: int, inputs: int, tokens: int, sparsity: float, seed: int) -> None:
    torch.manual_seed(seed)
    (weight1, bias1, mask1), (weight2, bias2, mask2) = (
        matrix(features, inputs, sparsity), matrix(inputs, features, sparsity),
    )  # fmt: skip
    x = torch.randn(tokens, inputs, requires_grad=True)
    first, second = KeptLinear(weight1, bias1, Pattern.of(mask1)), KeptLinear(weight2, bias2, Pattern.of(mask2))
    arguments = [x, weight1, bias1, weight2, bias2]
    found = gradients(masked_feed_forward(x, first, second), arguments)
    dense = in_double(*arguments)
    inner = F.gelu(F.linear(dense[0], dense[1] * mask1, dense[2]))
    check(found, gradients(F.linear(inner, dense[3] * mask2, dense[4]), dense))


@compiled
def test_what_needs_no_gradient_gets_none() -> None:
    weight, _, mask = matrix(8, 8, 0.5)
    linear = KeptLinear(weight, None, Pattern.of(mask))
    x = torch.randn(5, 8)
    masked_linear(x, linear).sum().backward()
    assert x.grad is None
    assert weight.grad is not None
    with torch.no_grad():
        assert not masked_linear(x, linear).requires_grad


def masked_layer() -> nn.Module:
    torch.manual_seed(0)
    config = BertConfig(hidden_size=32, num_attention_heads=2, intermediate_size=48, attn_implementation="eager")
    layer = BertLayer(config).eval()
    for name, linear in list(layer.named_modules()):
        if isinstance(linear, nn.Linear):
            layer.set_submodule(name, MaskedLinear.of(linear))
    join_feed_forward(layer)
    for linear in layer.modules():
        if isinstance(linear, MaskedLinear):
            linear.mask.copy_(torch.rand_like(linear.weight) >= 0.8)
    return layer


@compiled
def test_a_layer_is_the_same_by_kernels_and_its_copy_has_weights_of_its_own() -> None:
    layer, hidden = masked_layer(), torch.randn(2, 7, 32)
    dense = layer(hidden)
    for linear in layer.modules():
        if isinstance(linear, MaskedLinear):
            linear.sparse_from = 0.5
            linear.index_kept()
            assert linear.kept is not None
    torch.testing.assert_close(layer(hidden), dense, atol=1e-5, rtol=1e-5)
    copied = copy.deepcopy(layer)
    with torch.no_grad():
        layer.intermediate.dense.weight.zero_()
    torch.testing.assert_close(copied(hidden), dense, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(layer(hidden), dense)


@compiled
@pytest.mark.parametrize(
    ("sparse_from", "sparsity", "dtype", "by_kernels"),
    [
        (0.5, 0.5, torch.float32, True),
        (0.5, 0.45, torch.float32, False),
        (None, 0.95, torch.float32, False),
        (0.5, 0.95, torch.bfloat16, False),
    ],
)
def test_when_a_linear_is_sparse(sparse_from: float, sparsity: float, dtype: torch.dtype, by_kernels: bool) -> None:
    linear = MaskedLinear.of(nn.Linear(20, 10, dtype=dtype))
    linear.mask.flatten()[: round(sparsity * 200)] = False
    linear.sparse_from = sparse_from
    assert linear.kept is None
    linear.index_kept()
    assert (linear.kept is not None) == by_kernels


@compiled
def test_the_crossover_is_measured_once_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPD_RAY_CACHE", str(tmp_path))
    found = crossover.crossover(24, 40)
    (file,) = tmp_path.glob("crossover/*/crossover.json")
    kept = json.loads(file.read_text())
    assert kept["sparse_from"] == found == crossover.least_winning(kept["milliseconds"])
    assert (kept["shape"], kept["threads"]) == ([24, 40], torch.get_num_threads())
    assert kept["cpu"]
    file.write_text(json.dumps({**kept, "sparse_from": 0.123}))
    assert crossover.crossover(24, 40) == 0.123
    assert crossover.crossover(40, 24) != 0.123


def test_a_build_that_fails_is_tried_once(tmp_path: Path) -> None:
    """The compiler writes down how often it is called to compile; the second process is told by the first's failure."""
    compiler = tmp_path / "c++"
    compiler.write_text(
        "#!/bin/sh\ncase $1 in --version) echo 'broken 1.0';; -dumpfullversion|-v) exit 0;; "
        f"*) echo x >> {tmp_path}/calls; echo 'a.cpp:1:1: error: this compiler is broken'; exit 1;; esac\n"
    )
    compiler.chmod(0o755)
    code = f"""if True:
        import os
        os.environ.update(CXX={str(compiler)!r}, SPD_RAY_CACHE={str(tmp_path)!r}, MAX_JOBS="1")
        from spd_ray.kernels import build
        print(build.unavailable_because())
    """
    said = []
    for _ in range(2):
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        said.append((run.stdout, (tmp_path / "calls").read_text().count("x")))
    assert said[0] == said[1]
    assert said[0][0].strip() == "the kernels cannot be built: a.cpp:1:1: error: this compiler is broken"
