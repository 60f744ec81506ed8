"""Convolutions against JAX: first and second order, what their blocks store, where they end."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import jax.scipy.signal
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax
from support.agreement import agree, primitives_of

import blockjac

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Case:
    """One convolution: shapes of its operands, and its parameters."""

    lhs: tuple[int, ...]
    rhs: tuple[int, ...]
    strides: tuple[int, ...] = (1,)
    padding: Any = "VALID"
    lhs_dilation: tuple[int, ...] | None = None
    rhs_dilation: tuple[int, ...] | None = None
    numbers: Any = None
    features: int = 1
    batches: int = 1
    stored: int | None = None
    """What the block with respect to `lhs` stores, if not just the kernel: a table where an axis
    has steps on both sides, only a part of the kernel where the rest meets nothing."""

    def function(self, lhs, rhs, **options):
        return lax.conv_general_dilated(
            lhs,
            rhs,
            self.strides,
            self.padding,
            self.lhs_dilation,
            self.rhs_dilation,
            self.numbers,
            self.features,
            self.batches,
            **options,
        )

    def operands(self, dtype=np.float64):
        random = np.random.default_rng(0)
        return [jnp.asarray(random.normal(size=shape), dtype) for shape in (self.lhs, self.rhs)]


NHWC, HWCN = ("NHWC", "HWIO", "NHWC"), ("HWCN", "OHWI", "CNWH")
LINE, LENGTH = Case((2, 3, 7), (4, 3, 3)), partial(Case, (2, 3, 7), (4, 3, 3))
PLANE = partial(Case, (2, 4, 5, 3), (2, 3, 3, 4), numbers=NHWC)
CASES = {
    "line": LINE,
    "line-same": LENGTH(padding="SAME"),
    "line-padded": LENGTH(padding=((2, 1),)),
    "line-cropped": LENGTH(padding=((-1, -2),)),
    "line-padded-and-cropped": LENGTH(padding=((3, -2),)),
    "line-strided": LENGTH((2,)),
    "line-strided-same": LENGTH((3,), "SAME"),
    "line-strided-cropped": LENGTH((2,), ((-1, 2),)),
    "line-stride-over-all": LENGTH((9,), "SAME"),
    "line-stride-wider-than-kernel": LENGTH((4,), ((1, 1),)),
    "line-kernel-dilated": LENGTH(rhs_dilation=(2,)),
    "line-kernel-dilated-strided": LENGTH((2,), "SAME", rhs_dilation=(3,)),
    "line-input-dilated": LENGTH(padding=((1, 2),), lhs_dilation=(2,)),
    "line-input-dilated-cropped": LENGTH(padding=((-2, -1),), lhs_dilation=(3,)),
    "line-both-dilated": LENGTH(padding=((2, 2),), lhs_dilation=(2,), rhs_dilation=(3,)),
    "line-input-dilated-strided": LENGTH((2,), ((1, 2),), lhs_dilation=(3,)),
    "line-all-steps": LENGTH((3,), ((4, -1),), lhs_dilation=(2,), rhs_dilation=(2,)),
    "line-one-result": Case((2, 3, 3), (4, 3, 3)),
    "line-one-result-dilated": Case((2, 3, 3), (4, 3, 3), (5,), ((0, -2),), (2,), stored=24),
    "line-one-place": Case((2, 3, 1), (4, 3, 3), (1,), "SAME", stored=12),
    "line-one-place-dilated": Case((2, 3, 1), (4, 3, 3), (2,), ((2, 2),), (3,)),
    "line-kernel-of-one": Case((2, 3, 5), (4, 3, 1)),
    "line-kernel-of-one-strided": Case((2, 3, 5), (4, 3, 1), (2,)),
    "line-kernel-of-one-dilated": Case((2, 3, 5), (4, 3, 1), (1,), ((1, 0),), (2,)),
    "line-one-channel": Case((2, 1, 6), (1, 1, 2)),
    "line-one-example": Case((1, 2, 6), (3, 2, 2)),
    "line-all-ones": Case((1, 1, 1), (1, 1, 1)),
    "line-features-in-groups": Case((2, 4, 6), (6, 2, 3), features=2),
    "line-depthwise": Case((2, 3, 6), (3, 1, 3), padding="SAME", features=3),
    "line-depthwise-wider": Case((2, 3, 6), (6, 1, 3), (2,), features=3),
    "line-batches-in-groups": Case((4, 3, 6), (6, 3, 3), batches=2),
    "line-batches-of-one": Case((3, 2, 6), (6, 2, 3), (2,), batches=3),
    "line-groups-dilated": Case((2, 4, 4), (6, 2, 3), (1,), ((2, 2),), (2,), features=2),
    "line-empty-batch": Case((0, 3, 5), (4, 3, 3)),
    "line-empty-channels": Case((2, 0, 5), (4, 0, 3)),
    "line-empty-features": Case((2, 3, 5), (0, 3, 3)),
    "line-empty-result": Case((2, 3, 2), (4, 3, 3)),
    "no-space": Case((2, 4), (6, 4), ()),
    "no-space-in-groups": Case((2, 4), (6, 2), (), features=2),
    "plane": PLANE((1, 1)),
    "plane-same": PLANE((1, 1), "SAME"),
    "plane-strided": PLANE((2, 1), "SAME"),
    "plane-strided-padded": PLANE((1, 2), ((1, 0), (-1, 2))),
    "plane-dilated": PLANE((1, 1), ((1, 1), (2, 0)), (2, 1), (1, 2)),
    "plane-default-axes": Case((2, 3, 4, 5), (4, 3, 2, 3), (2, 2), "SAME"),
    "plane-other-axes": Case((4, 5, 3, 2), (4, 2, 3, 3), (1, 2), ((1, 0), (0, 1)), numbers=HWCN),
    "plane-depthwise": Case((2, 4, 5, 2), (2, 3, 1, 4), (1, 1), "SAME", numbers=NHWC, features=2),
    "volume": Case((2, 2, 3, 4, 3), (2, 2, 2, 3, 2), (1, 2, 1), ((0, 1), (1, 1), (-1, 2))),
}


@pytest.mark.parametrize("name", CASES)
def test_convolution(name):
    case = CASES[name]
    operands = case.operands()
    stored = []

    @jax.jit
    def ours_and_theirs(*operands):
        blocks = blockjac.block_jacobian(case.function, (0, 1))(*operands)
        stored.extend(block.stored for block in blocks)
        ours = [[block.dense() for block in blocks]]
        for order in ("forward", "reverse"):
            ours.append(list(blockjac.jacobian(case.function, (0, 1), order=order)(*operands)))
        return ours, list(jax.jit(jax.jacfwd(case.function, (0, 1)))(*operands))

    ours, theirs = ours_and_theirs(*operands)
    for own in ours:
        agree(own, theirs, holes=False)
    empty = 0 in (*case.lhs, *case.rhs, *case.function(*operands).shape)
    kernel = operands[1].size if case.stored is None else case.stored
    assert stored[0] == (0 if empty else kernel)
    whole = case.stored is None or case.stored >= operands[1].size
    if set(case.strides) <= {1} and whole:  # a kernel that sticks out everywhere reads patches
        assert stored[1] <= operands[0].size


@pytest.mark.parametrize("name", CASES)
def test_second_order(name):
    case = CASES[name]

    def number(*operands):
        return jnp.sum(jnp.sin(case.function(*operands)))

    @jax.jit
    def both(*operands):
        ours = blockjac.jacobian(blockjac.grad(number, (0, 1)), (0, 1))(*operands)
        return ours, jax.jit(jax.jacfwd(jax.jacrev(number, (0, 1)), (0, 1)))(*operands)

    ours, theirs = both(*case.operands())
    agree(ours, theirs, holes=False, rtol=1e-9, atol=1e-11)


@st.composite
def convolutions(draw):
    """Any convolution of small sizes with a result that is not empty."""
    rank = draw(st.integers(0, 2))
    few = lambda low, high: tuple(draw(st.integers(low, high)) for _ in range(rank))  # noqa: E731
    group = draw(st.integers(1, 3))
    features, batches = (group, 1) if draw(st.booleans()) else (1, group)
    batch, channels = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    outputs = draw(st.integers(1, 2)) * group
    sizes, width = few(1, 5), few(1, 3)
    bases, dilation, strides = few(1, 3), few(1, 2), few(1, 3)
    padding = []
    for size, count, base, step in zip(sizes, width, bases, dilation, strict=True):
        low = draw(st.integers(-1, 3))
        spread = base * (size - 1) + 1 + low
        reach = step * (count - 1) + 1
        padding.append((low, max(draw(st.integers(-1, 3)), reach - spread)))
    return Case(
        (batch * batches, channels * features, *sizes),
        (outputs, channels, *width),
        strides,
        padding,
        bases,
        dilation,
        None,
        features,
        batches,
    )


@settings(max_examples=min(20, settings.default.max_examples))
@given(convolutions())
def test_any_convolution(case):
    @jax.jit
    def both(*operands):
        blocks = blockjac.block_jacobian(case.function, (0, 1))(*operands)
        ours = [block.dense() for block in blocks]
        return ours, list(jax.jit(jax.jacfwd(case.function, (0, 1)))(*operands))

    ours, theirs = both(*case.operands())
    agree(ours, theirs, holes=False)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("result", [None, "float32"])
def test_dtypes_are_those_of_jax(dtype, result):
    case = CASES["line-strided-same"]
    operands = case.operands(dtype)
    function = partial(case.function, preferred_element_type=result)
    ours = blockjac.jacobian(function, (0, 1))(*operands)
    theirs = jax.jit(jax.jacrev(function, (0, 1)))(*operands)
    agree(jax.tree.map(_wide, ours), jax.tree.map(_wide, theirs), holes=False, rtol=1e-2)
    assert [one.dtype for one in ours] == [one.dtype for one in theirs]
    number = lambda *operands: jnp.sum(function(*operands) ** 2)  # noqa: E731
    ours, theirs = (each(number, (0, 1))(*operands) for each in (blockjac.grad, jax.grad))
    agree(jax.tree.map(_wide, ours), jax.tree.map(_wide, theirs), holes=False, rtol=3e-2, atol=1e-1)
    assert [one.dtype for one in ours] == [one.dtype for one in theirs]


def _wide(array):
    return array.astype(jnp.float64)


@pytest.mark.parametrize("name", ["line-strided-same", "plane-dilated"])
def test_complex_numbers(name):
    case = CASES[name]
    lhs, rhs = case.operands()
    operands = (lhs + 0.5j * lhs[::-1], rhs - 2j * rhs)
    ours = blockjac.jacobian(case.function, (0, 1), holomorphic=True)(*operands)
    theirs = jax.jit(jax.jacrev(case.function, (0, 1), holomorphic=True))(*operands)
    agree(ours, theirs, holes=False)


SQUARE, SMALL = (1, 2, 5, 5), (3, 2, 2, 2)
FUNCTIONS = {
    "conv": (lambda x, k: lax.conv(x, k, (2, 1), "SAME"), SQUARE, SMALL),
    "conv_transpose": (
        lambda x, k: lax.conv_transpose(x, k, (2, 2), "SAME"),
        (1, 3, 3, 2),
        (3, 3, 2, 4),
    ),
    "conv_transpose-of-a-kernel": (
        lambda x, k: lax.conv_transpose(x, k, (2,), "VALID", transpose_kernel=True),
        (1, 4, 2),
        (3, 4, 2),
    ),
    "conv_with_general_padding": (
        lambda x, k: lax.conv_with_general_padding(x, k, (1, 2), [(1, 0), (2, 1)], (2, 1), None),
        SQUARE,
        SMALL,
    ),
    "conv_general_dilated_local": (
        lambda x, k: lax.conv_general_dilated_local(x, k, (1,), "VALID", (2,)),
        (2, 2, 4),
        (3, 4, 3),
    ),
    "conv_general_dilated_patches": (
        lambda x, k: lax.conv_general_dilated_patches(x, (2, 3), (2, 1), "SAME") * jnp.sum(k),
        SQUARE,
        (2,),
    ),
    "convolve": (lambda x, k: jnp.convolve(x, k, mode="same"), (7,), (4,)),
    "convolve-itself": (lambda x, k: jnp.convolve(x, x) * jnp.sum(k), (4,), (2,)),
    "correlate": (lambda x, k: jnp.correlate(x, k, mode="full"), (7,), (4,)),
    "signal.convolve": (jax.scipy.signal.convolve, (3, 4, 3), (2, 2, 1)),
    "signal.convolve2d": (partial(jax.scipy.signal.convolve2d, mode="same"), (4, 5), (2, 3)),
    "signal.correlate2d": (partial(jax.scipy.signal.correlate2d, mode="valid"), (4, 5), (2, 3)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_that_convolve(name):
    function, *shapes = FUNCTIONS[name]
    random = np.random.default_rng(0)
    operands = [jnp.asarray(random.normal(size=shape)) for shape in shapes]
    assert "conv_general_dilated" in primitives_of(jax.make_jaxpr(function)(*operands))

    @jax.jit
    def both(*operands):
        ours = blockjac.jacobian(function, (0, 1))(*operands)
        return ours, jax.jit(jax.jacfwd(function, (0, 1)))(*operands)

    ours, theirs = both(*operands)
    agree(ours, theirs, holes=False)


# Where they end, and what is kept


def emitted(function, *operands):
    """The primitives that a function of arrays is made of, its inner functions included."""
    return primitives_of(jax.make_jaxpr(function)(*operands))


def test_a_gradient_ends_in_convolutions():
    case = CASES["plane-strided"]

    def loss(lhs, rhs):
        return jnp.sum(jax.nn.relu(case.function(lhs, rhs)) ** 2)

    primitives = emitted(blockjac.grad(loss, (0, 1)), *case.operands())
    assert "conv_general_dilated" in primitives
    assert not primitives & {"dot_general", "gather", "scatter-add"}


def test_a_tangent_ends_in_convolutions():
    case = CASES["plane-strided"]
    operands = case.operands()
    primitives = emitted(
        lambda *operands: blockjac.jvp(case.function, operands, operands), *operands
    )
    assert "conv_general_dilated" in primitives
    assert not primitives & {"dot_general", "gather", "scatter-add"}


def test_a_lone_block_computes_nothing():
    case = CASES["plane-same"]
    blocks = jax.make_jaxpr(blockjac.block_jacobian(case.function, (0, 1)))(*case.operands())
    used = jax.extend.core.jaxpr_as_fun(blocks)(*case.operands())
    assert sorted(one.size for one in used) == sorted(one.size for one in case.operands())


def test_elementwise_functions_keep_the_kernel_apart():
    case = CASES["line-same"]
    lhs, rhs = case.operands()
    block = blockjac.block_jacobian(lambda lhs: jnp.tanh(case.function(lhs, rhs)))(lhs)
    assert block.stored == rhs.size + case.function(lhs, rhs).size
    assert block.structure == "δ[i,i'] [wrt2=k+m-1] A[i,j,k] B[j,l,m]"


def test_examples_stay_apart():
    case = PLANE((1, 1), "SAME")
    operands = case.operands()

    def losses(lhs, rhs):
        return jnp.sum(jnp.sin(case.function(lhs, rhs)), (1, 2, 3))

    blocks = blockjac.block_jacobian(losses, (0, 1))(*operands)
    assert blocks[0].stored == operands[0].size
    assert blocks[1].stored == len(operands[0]) * operands[1].size
    agree(
        tuple(one.dense() for one in blocks),
        jax.jit(jax.jacrev(losses, (0, 1)))(*operands),
        holes=False,
    )


def test_a_jacobian_through_two_layers():
    case = PLANE((1, 1), "SAME")
    lhs, rhs = case.operands()
    last = jnp.asarray(np.random.default_rng(1).normal(size=(2, 2, 4, 3)))

    def layers(lhs, rhs):
        inner = jnp.tanh(case.function(lhs, rhs))
        strides = (2, 2)
        return lax.conv_general_dilated(inner, last, strides, "SAME", dimension_numbers=NHWC)

    wanted = jax.jit(jax.jacrev(layers, (0, 1)))(lhs, rhs)
    for order in ("auto", "forward", "reverse", "greedy"):
        found = blockjac.jacobian(layers, (0, 1), order=order)(lhs, rhs)
        agree(found, wanted, holes=False)


def test_values_and_pullback_in_two_programs():
    case = CASES["line-depthwise-wider"]
    operands = case.operands()
    value, pullback = blockjac.vjp(case.function, *operands)
    wanted, theirs = jax.vjp(case.function, *operands)
    agree(value, wanted, holes=False)
    agree(pullback(jnp.cos(value)), theirs(jnp.cos(value)), holes=False)
