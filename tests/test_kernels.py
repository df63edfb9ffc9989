"""The compiled products against dense torch, on every instruction set that this machine has.

Address sanitizer, once (GCC): the library is built with it into a cache of its own, and the interpreter preloads it:

    SPD_RAY_KERNELS_FLAGS="-fsanitize=address -O1 -g" SPD_RAY_CACHE=/tmp/asan ASAN_OPTIONS=detect_leaks=0 \
        LD_PRELOAD="$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libstdc++.so)" \
        python -m pytest tests/test_kernels.py
"""

import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from spd_ray.kernels import build, products
from spd_ray.kernels.products import Pattern, from_tiles, sparse_linear, to_tiles

compiled = pytest.mark.skipif(not build.available(), reason=str(build.unavailable_because()))
SETS = ("portable", "avx2", "avx512")
WIDTHS = (16, 32, 64)


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    if build.available():
        for name in SETS:
            torch.ops.spd_ray.use_instruction_set(name)


@pytest.fixture(params=SETS)
def instruction_set(request: pytest.FixtureRequest) -> str:
    if not build.available() or torch.ops.spd_ray.use_instruction_set(request.param) != request.param:
        pytest.skip(f"no {request.param} here")
    return request.param


shapes = {
    "out": st.integers(1, 70),
    "inputs": st.integers(1, 90),
    "tokens": st.integers(1, 150),
    "sparsity": st.sampled_from([0.0, 0.5, 0.9, 0.97, 1.0]),
    "width": st.sampled_from(WIDTHS),
    "threads": st.integers(1, 3),
    "seed": st.integers(0, 1000),
}


def problem(out: int, inputs: int, tokens: int, sparsity: float, seed: int) -> tuple[Tensor, Tensor, Tensor, Pattern]:
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(out, inputs, generator=generator) >= sparsity
    mask[seed % out] = False  # an empty row
    weight = torch.randn(out, inputs, generator=generator) * mask
    x = torch.randn(tokens, inputs, generator=generator)
    return x, weight, torch.randn(out, generator=generator), Pattern.of(mask)


def close(found: Tensor, wanted: Tensor, scale: float = 1.0) -> None:
    """Sums of up to 150 products of normal numbers: 1e-5 of fp32's rounding, beside 1e-5 of the value."""
    torch.testing.assert_close(found.double(), wanted.double(), atol=1e-5 * scale, rtol=1e-5)


@compiled
@settings(max_examples=60, deadline=None)
@given(**shapes)
def test_product_and_gradients(
    out: int, inputs: int, tokens: int, sparsity: float, width: int, threads: int, seed: int
) -> None:
    torch.set_num_threads(threads)
    x, weight, bias, pattern = problem(out, inputs, tokens, sparsity, seed)
    check_against_dense(x, weight, bias, pattern, width)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("shape", [(48, 80, 200, 0.9), (33, 17, 65, 0.5), (1, 1, 1, 0.0), (8, 8, 64, 1.0)])
def test_every_instruction_set(instruction_set: str, shape: tuple[int, int, int, float], width: int) -> None:
    x, weight, bias, pattern = problem(*shape, seed=3)
    check_against_dense(x, weight, bias, pattern, width)


def check_against_dense(x: Tensor, weight: Tensor, bias: Tensor, pattern: Pattern, width: int) -> None:
    sparse = [one.clone().requires_grad_() for one in (x, pattern.values_of(weight), bias)]
    dense = [one.double().requires_grad_() for one in (x, weight, bias)]
    y = from_tiles(sparse_linear(to_tiles(sparse[0], width), sparse[1], pattern, sparse[2]), len(x))
    wanted = F.linear(*dense)
    close(y, wanted, 4)
    up = torch.randn(y.shape, generator=torch.Generator().manual_seed(1))
    dx, dvalues, dbias = torch.autograd.grad(y, sparse, up)
    wanted_dx, dweight, wanted_dbias = torch.autograd.grad(wanted, dense, up.double())
    close(dx, wanted_dx, 4)
    close(dvalues, pattern.values_of(dweight), 8)
    close(dbias, wanted_dbias, 8)


@pytest.mark.parametrize("width", WIDTHS)
def test_bfloat16_values(instruction_set: str, width: int) -> None:
    x, weight, bias, pattern = problem(40, 72, 100, 0.8, seed=5)
    values = pattern.values_of(weight).bfloat16().requires_grad_()
    tiles = to_tiles(x, width).requires_grad_()
    y = sparse_linear(tiles, values, pattern, bias)
    rounded = pattern.dense(values.detach().float())
    close(from_tiles(y, len(x)), F.linear(x.double(), rounded.double(), bias.double()), 4)
    y.sum().backward()
    assert values.grad is not None
    assert values.grad.dtype == torch.bfloat16
    assert tiles.grad is not None
    close(tiles.grad, rounded.sum(0)[:, None].expand(tiles.shape[1:]).expand_as(tiles), 4)


@compiled
def test_threads_change_nothing() -> None:
    x, weight, bias, pattern = problem(130, 60, 1000, 0.8, seed=7)
    found = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        values = pattern.values_of(weight).requires_grad_()
        tiles = to_tiles(x).requires_grad_()
        y = sparse_linear(tiles, values, pattern, bias)
        found.append((y, *torch.autograd.grad(y.square().sum(), (tiles, values))))
    for others in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], others, strict=True))


def test_gradcheck_in_plain_torch() -> None:
    """In fp64, which the kernels leave to plain torch: the formulas that the kernels are compared with."""
    x, weight, bias, pattern = problem(5, 6, 16, 0.5, seed=2)
    tiles = to_tiles(x, 16).double().requires_grad_()
    values = pattern.values_of(weight).double().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x, v, b: sparse_linear(x, v, pattern, b), (tiles, values, bias.double().requires_grad_())
    )


@compiled
def test_gradcheck_compiled() -> None:
    """The product is linear in each argument: in fp32 a wide step has no error but rounding."""
    x, weight, bias, pattern = problem(5, 6, 16, 0.5, seed=2)
    arguments = (to_tiles(x, 16), pattern.values_of(weight), bias)
    assert torch.autograd.gradcheck(
        lambda x, v, b: sparse_linear(x, v, pattern, b),
        tuple(one.clone().requires_grad_() for one in arguments),
        eps=0.5,
        atol=1e-4,
        rtol=1e-4,
    )


def test_plain_torch_where_nothing_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "available", lambda: False)
    x, weight, bias, pattern = problem(33, 40, 70, 0.8, seed=4)
    for width in WIDTHS:
        check_against_dense(x, weight, bias, pattern, width)


def test_the_reason_is_one_line() -> None:
    code = "from spd_ray.kernels import build; print(build.available(), build.unavailable_because())"
    for variables in ({"SPD_RAY_KERNELS": "off"}, {"CXX": "no-such-compiler"}):
        run = subprocess.run(
            [sys.executable, "-c", f"import os; os.environ.update({variables!r}); {code}"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert run.stdout.startswith("False "), run.stderr
        assert run.stdout.count("\n") == 1


@settings(max_examples=30, deadline=None)
@given(out=shapes["out"], inputs=shapes["inputs"], sparsity=shapes["sparsity"], seed=shapes["seed"])
def test_pattern(out: int, inputs: int, sparsity: float, seed: int) -> None:
    _, weight, _, pattern = problem(out, inputs, 1, sparsity, seed)
    values = pattern.values_of(weight)
    assert torch.equal(pattern.dense(values), weight)
    transposed = Pattern.of(weight.T != 0)
    assert torch.equal(transposed.dense(values[pattern.order]), weight.T)
    assert torch.equal(pattern.transposed_columns, transposed.columns)
    assert torch.equal(pattern.transposed_rows, transposed.rows)


def test_pattern_of_too_many_columns() -> None:
    with pytest.raises(ValueError, match="at most 65536"):
        Pattern.of(torch.zeros(1, 65537, dtype=torch.bool))


def test_gelu(instruction_set: str) -> None:
    x = torch.cat([torch.linspace(-60, 60, 200_001), torch.randn(100_003) * 3])
    error = (torch.ops.spd_ray.gelu(x).double() - F.gelu(x.double())).abs()
    assert float((error / x.abs().clamp(min=1)).max()) < 1e-6


def test_gelu_of_products_and_its_derivative(instruction_set: str) -> None:
    """By the unit matrix, whose products are what they multiply."""
    x = torch.cat([torch.linspace(-60, 60, 20_480), torch.randn(20_480) * 3]).view(-1, 8, 64).contiguous()
    pattern, ones = Pattern.of(torch.eye(8, dtype=torch.bool)), torch.ones(8)
    before, after = torch.ops.spd_ray.product_and_gelu(ones, pattern.columns, pattern.rows, x, None)
    wide, up = x.double().requires_grad_(), torch.randn_like(x)
    y = F.gelu(wide)
    assert torch.equal(before, x)
    torch.testing.assert_close(after.double(), y, atol=1e-6, rtol=1e-6)
    through = torch.ops.spd_ray.product_through_gelu(ones, pattern.columns, pattern.rows, up, before)
    torch.testing.assert_close(through.double(), torch.autograd.grad(y, wide, up.double())[0], atol=4e-6, rtol=1e-5)


@settings(max_examples=20, deadline=None)
@given(tokens=st.integers(1, 200), features=st.integers(1, 70), width=st.sampled_from(WIDTHS))
def test_tiles_there_and_back(tokens: int, features: int, width: int) -> None:
    x = torch.randn(tokens, features, requires_grad=True)
    tiles = to_tiles(x, width)
    assert tiles.shape == (-(-tokens // width), features, width)
    assert torch.equal(tiles, products._tile_in_torch(x, width))
    back = from_tiles(tiles, tokens)
    assert torch.equal(back, x)
    (gradient,) = torch.autograd.grad(back.sum() * 2, x)
    assert torch.equal(gradient, torch.full_like(x, 2))


@compiled
def test_wrong_shapes_are_refused() -> None:
    x, weight, bias, pattern = problem(8, 8, 16, 0.5, seed=1)
    values = pattern.values_of(weight)
    with pytest.raises(RuntimeError, match="16, 32 or 64"):
        sparse_linear(torch.zeros(1, 8, 8), values, pattern)
    with pytest.raises(RuntimeError, match="as many values"):
        sparse_linear(to_tiles(x), values[1:], pattern)
    with pytest.raises(RuntimeError, match="vector of 8"):
        sparse_linear(to_tiles(x), values, pattern, bias[1:])
    with pytest.raises(RuntimeError, match="8 features"):
        sparse_linear(to_tiles(x)[:, 1:], values, pattern)
