"""Masked linears from their kept weights against the dense product with its mask: values, gradients, and when."""

import copy
import json
import subprocess
import sys
from collections.abc import Iterator
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
from spd_ray.kernels.between import Bits, add_norm, softmax
from spd_ray.kernels.masked import KeptLinear, masked_feed_forward, masked_heads, masked_linear
from spd_ray.kernels.products import Pattern
from spd_ray.model.attention import ATTENTION_MAPS
from spd_ray.model.dropout import LEVELS, Dropout, random_bits
from spd_ray.model.linear import MaskedLinear
from spd_ray.model.sparse_layer import join_linears

compiled = pytest.mark.skipif(not build.available(), reason=str(build.unavailable_because()))
settings.register_profile("few", max_examples=25, deadline=None)


SETS = ("portable", "avx2", "avx512")


@pytest.fixture(params=SETS)
def instruction_set(request: pytest.FixtureRequest) -> Iterator[str]:
    if not build.available() or torch.ops.spd_ray.use_instruction_set(request.param) != request.param:
        pytest.skip(f"no {request.param} here")
    yield request.param
    for name in SETS:
        torch.ops.spd_ray.use_instruction_set(name)  # the last that this machine has


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
@settings(settings.get_profile("few"))
@given(
    inputs=st.integers(1, 40), heads=st.integers(1, 4), size=st.integers(1, 20), batch=st.integers(1, 4),
    length=st.integers(1, 80), seed=st.integers(0, 99),
)  # fmt: skip
def test_heads(inputs: int, heads: int, size: int, batch: int, length: int, seed: int) -> None:
    torch.manual_seed(seed)
    parts = [matrix(heads * size, inputs, 0.7) for _ in range(3)]
    x = torch.randn(batch, length, inputs, requires_grad=True)
    linears = [KeptLinear(weight, bias, Pattern.of(mask)) for weight, bias, mask in parts]
    arguments = [x, *(one for weight, bias, _ in parts for one in (weight, bias))]
    found = gradients(torch.stack(masked_heads(x, linears, heads)), arguments)
    dense = in_double(*arguments)
    wanted = [
        F.linear(dense[0], dense[1 + 2 * i] * parts[i][2], dense[2 + 2 * i]).view(batch, length, heads, size)
        for i in range(3)
    ]
    check(found, gradients(torch.stack(wanted).transpose(2, 3), dense))


def factors(bits: Bits | None, shape: torch.Size) -> Tensor:
    """What dropout multiplies by."""
    return torch.ones(shape) if bits is None else (bits.numbers.view(shape) >= bits.least) * bits.scale


@compiled
@pytest.mark.parametrize("p", [0.0, 0.3])
@pytest.mark.parametrize(("batch", "length", "features"), [(1, 1, 16), (2, 3, 48), (3, 50, 80)])
def test_add_norm(instruction_set: str, p: float, batch: int, length: int, features: int) -> None:
    torch.manual_seed(0)
    h, x = (torch.randn(batch, length, features, requires_grad=True) for _ in range(2))
    norm = nn.LayerNorm(features, eps=1e-6)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    bits = random_bits(h.numel(), p) if p else None
    arguments = [h, x, norm.weight, norm.bias]
    found = gradients(add_norm(h, x, norm, bits), arguments)
    dense = in_double(*arguments)
    sum_ = dense[0] * factors(bits, h.shape) + dense[1]
    check(found, gradients(F.layer_norm(sum_, (features,), dense[2], dense[3], 1e-6), dense))


@compiled
@pytest.mark.parametrize("p", [0.0, 0.3])
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 3, 5, 5), (3, 2, 33, 33), (2, 2, 7, 18)])
@pytest.mark.parametrize("masked", [False, True])
def test_softmax(instruction_set: str, p: float, shape: tuple[int, ...], masked: bool) -> None:
    torch.manual_seed(0)
    scores = torch.randn(shape).mul(4).requires_grad_()
    mask = torch.zeros(shape[0], 1, 1, shape[3])
    mask[0, ..., 1:] = torch.finfo(torch.float32).min if masked else 0.0
    bits = random_bits(scores.numel(), p) if p else None
    found = softmax(scores, mask if masked else None, 0.4, bits)
    dense = scores.detach().double().requires_grad_()
    probabilities = (dense * 0.4 + mask).softmax(-1)
    wanted = (probabilities, probabilities * factors(bits, scores.shape))
    for one, other in zip(found, wanted, strict=True):
        check([one], [other])
    assert torch.equal(found[0] == 0, mask.expand(shape) < 0)
    up = torch.randn(2, *shape)
    loss, of_dense = (sum((a * b).sum() for a, b in zip(pair, up, strict=True)) for pair in (found, wanted))
    check([torch.autograd.grad(loss, scores)[0]], [torch.autograd.grad(of_dense, dense)[0]])


def test_random_bits_drop_their_share() -> None:
    torch.manual_seed(0)
    bits = random_bits(200_001, 0.1)
    kept = (bits.numbers >= bits.least).float()
    assert kept.mean() == pytest.approx(0.9, abs=3e-3)
    assert bits.scale == pytest.approx(1 / 0.9, abs=1 / LEVELS * 2)


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


def gradients_of(layer: nn.Module, hidden: Tensor, seed: int) -> list[Tensor]:
    """Of every parameter and of the input, with dropout as `seed` gives it."""
    torch.manual_seed(seed)
    hidden = hidden.clone().requires_grad_()
    y = layer(hidden)
    return [y, *torch.autograd.grad(y.square().sum(), [hidden, *layer.parameters()])]


def masked_layer(attention: str) -> nn.Module:
    torch.manual_seed(0)
    config = BertConfig(hidden_size=32, num_attention_heads=2, intermediate_size=48, attn_implementation=attention)
    layer = BertLayer(config)
    for name, module in list(layer.named_modules()):
        if isinstance(module, nn.Linear):
            layer.set_submodule(name, MaskedLinear.of(module))
        elif isinstance(module, nn.Dropout):
            layer.set_submodule(name, Dropout(0.2))
    join_linears(layer)
    for linear in linears_of(layer):
        linear.mask.copy_(torch.rand_like(linear.weight) >= 0.8)
    return layer


def linears_of(layer: nn.Module) -> list[MaskedLinear]:
    return [linear for linear in layer.modules() if isinstance(linear, MaskedLinear)]


@compiled
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("attention", sorted(ATTENTION_MAPS.values()))
@pytest.mark.parametrize("which", [slice(None), slice(0, 3), slice(3, 4), slice(4, 6), slice(1, 5)], ids=str)
def test_a_layer_is_the_same_by_kernels(which: slice, attention: str, training: bool) -> None:
    """Whichever of its six linears are sparse, and with the same draws of dropout."""
    layer, hidden = masked_layer(attention).train(training), torch.randn(2, 7, 32)
    dense = gradients_of(layer, hidden, 1)
    for linear in linears_of(layer)[which]:
        linear.sparse_from = 0.5
        linear.index_kept()
        assert linear.kept is not None
    for one, other in zip(gradients_of(layer, hidden, 1), dense, strict=True):
        torch.testing.assert_close(one, other, atol=2e-4, rtol=2e-4)


@compiled
def test_a_copy_of_a_layer_has_weights_of_its_own() -> None:
    layer, hidden = masked_layer("eager").eval(), torch.randn(2, 7, 32)
    before = layer(hidden)
    copied = copy.deepcopy(layer)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()
    assert torch.equal(copied(hidden), before)


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
