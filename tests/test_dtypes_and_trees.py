"""Dtypes, weak types and trees of answers, beside JAX's: everything that can be differentiated."""

import collections
import dataclasses
import functools
import subprocess
import sys
import warnings
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import blockjac

FLOATS = ["float16", "bfloat16", "float32", "float64"]
COMPLEX = ["complex64", "complex128"]
FLOAT0 = jax.dtypes.float0


def kinds(tree):
    """The tree, with the dtype, shape and weak type of each leaf."""
    return jax.tree.map(
        lambda leaf: (
            getattr(leaf, "dtype", None) or jnp.result_type(leaf),
            np.shape(leaf),
            getattr(leaf, "weak_type", False),
        ),
        tree,
    )


def assert_same(ours, theirs, rtol=1e-12):
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    assert kinds(ours) == kinds(theirs)
    for own, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        if own.dtype != FLOAT0:
            wide = jnp.promote_types(own.dtype, jnp.float32)
            own, other = np.asarray(own, wide), np.asarray(other, wide)
            np.testing.assert_allclose(own, other, rtol=rtol)


def square(x):
    return x * x


FUNCTIONS = {
    "square": square,
    "sine": jnp.sin,
    "times-float32": lambda x: x * jnp.float32(3),
    "to-float32": lambda x: 2 * jnp.asarray(x).astype("float32"),
    "to-float64": lambda x: 2 * jnp.asarray(x).astype("float64"),
    "to-bfloat16": lambda x: 2 * jnp.asarray(x).astype("bfloat16"),
    "identity": lambda x: x,
    "zero": lambda x: jnp.zeros(2),
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dtype", FLOATS)
def test_a_jacobian_has_the_dtype_of_its_input_as_jacrev(dtype, name):
    x = jnp.asarray([1.5, 0.5], dtype)
    fun = FUNCTIONS[name]
    rtol = 1e-12 if dtype == "float64" else float(jnp.finfo(dtype).eps)
    assert_same(blockjac.jacobian(fun)(x), jax.jacrev(fun)(x), rtol)
    total = lambda x: jnp.sum(fun(x))  # noqa: E731
    assert_same(blockjac.grad(total)(x), jax.grad(total)(x), rtol)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dtype", FLOATS)
def test_a_tangent_has_the_dtype_of_the_result(dtype, name):
    x = jnp.asarray([1.5, 0.5], dtype)
    ours = blockjac.jvp(FUNCTIONS[name], (x,), (x,))
    rtol = 1e-12 if dtype == "float64" else 2 * float(jnp.finfo("bfloat16").eps)
    assert_same(ours, jax.jvp(FUNCTIONS[name], (x,), (x,)), rtol)


@pytest.mark.parametrize("name", ["square", "sine", "identity"])
@pytest.mark.parametrize("dtype", COMPLEX)
def test_holomorphic_dtypes(dtype, name):
    z = jnp.asarray([1.5 + 0.5j, 0.5 - 2j], dtype)
    fun = FUNCTIONS[name]
    rtol = 1e-12 if dtype == "complex128" else 1e-6
    ours = blockjac.jacobian(fun, holomorphic=True)(z)
    assert_same(ours, jax.jacrev(fun, holomorphic=True)(z), rtol)


@pytest.mark.parametrize("value", [1.5, np.float32(1.5), np.float64(1.5), np.array(1.5), [1.5, 2]])
def test_python_and_numpy_values_have_the_types_of_jax(value):
    fun = functools.partial(jax.tree.map, square)
    if isinstance(value, list):
        value = [float(number) for number in value]
    assert_same(blockjac.jacobian(fun)(value), jax.jacrev(fun)(value))
    assert_same(blockjac.jvp(fun, (value,), (value,))[1], jax.jvp(fun, (value,), (value,))[1])


@pytest.mark.parametrize("weak", [False, True])
def test_weak_types_follow_the_input(weak):
    x = jnp.asarray(1.5) if weak else jnp.asarray(1.5, "float32")
    assert x.weak_type == weak
    ours, theirs = blockjac.grad(lambda x: x * 2)(x), jax.grad(lambda x: x * 2)(x)
    assert_same(ours, theirs)
    assert ours.weak_type == weak


# Integers


@pytest.mark.parametrize("value", [3, True, np.arange(2), jnp.array([True]), np.uint8(2)], ids=repr)
def test_integers_have_float0(value):
    def fun(n):
        return jnp.sum(jnp.asarray(n) * 2.0)

    gradient = blockjac.grad(fun, allow_int=True)(value)
    assert gradient.dtype == FLOAT0 == jax.grad(fun, allow_int=True)(value).dtype
    assert gradient.shape == np.shape(value)
    _, pullback = blockjac.vjp(fun, value)
    assert pullback(1.0)[0].dtype == FLOAT0


def test_a_jacobian_by_integers_is_float0_where_jax_has_zeros_of_integers():
    ours = blockjac.jacobian(lambda n: n * jnp.ones(2), allow_int=True)(3)
    assert (ours.dtype, ours.shape) == (FLOAT0, (2,))
    assert jax.jacrev(lambda n: n * jnp.ones(2), allow_int=True)(3).dtype == jnp.int64


def test_integer_leaves_beside_floats():
    tree = {"x": 2.0, "n": 3, "none": None}

    def fun(tree):
        return tree["x"] ** 2 * tree["n"]

    ours = blockjac.grad(fun, allow_int=True)(tree)
    assert kinds(ours) == kinds(jax.grad(fun, allow_int=True)(tree))
    assert ours["x"] == 12.0


def test_integers_in_products():
    def fun(x, n):
        return x * n, n + 1

    nothing = np.zeros((), FLOAT0)
    (value, integer), (rate, none) = blockjac.jvp(fun, (2.0, 3), (1.0, nothing))
    assert (value, integer, rate, none.dtype) == (6.0, 4, 3.0, FLOAT0)
    _, pullback = blockjac.vjp(fun, 2.0, 3)
    by_x, by_n = pullback((1.0, nothing))
    assert (by_x, by_n.dtype) == (3.0, FLOAT0)


# Shapes


@pytest.mark.parametrize("shape", [(), (0,), (0, 3), (1,), (1, 1, 1)])
def test_empty_and_small_arrays(shape):
    x = jnp.full(shape, 0.5)
    for fun in (square, jnp.sum, lambda x: x.reshape(-1), lambda x: jnp.stack([x, 2 * x])):
        assert_same(blockjac.jacobian(fun)(x), jax.jacrev(fun)(x))


# Trees


class Point(NamedTuple):
    x: jax.Array
    y: jax.Array


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["weight", "bias"], meta_fields=["activation"]
)
@dataclasses.dataclass(frozen=True)
class Linear:
    """Behaves as a module of Equinox: arrays are leaves, the activation is static."""

    weight: jax.Array
    bias: jax.Array | None
    activation: object = jnp.tanh

    def __call__(self, x):
        y = self.weight @ x
        return self.activation(y if self.bias is None else y + self.bias)


W, V = jnp.arange(6.0).reshape(2, 3) / 7, jnp.arange(3.0)
TREES = {
    "dict": {"b": V, "a": W},
    "ordered-dict": collections.OrderedDict(b=V, a=W),
    "default-dict": collections.defaultdict(list, b=V, a=W),
    "namedtuple": Point(V, W),
    "nested": [(V, None), {"x": [W, ()]}, Point(V, None)],
    "none": {"x": V, "none": None},
    "empty": {"x": V, "none": ()},
    "numbers": (1.0, [2.0, {"x": np.float32(3.0)}]),
    "dataclass": Linear(W, None),
}


@pytest.mark.parametrize("name", TREES)
def test_trees_of_arguments_and_results(name):
    tree = TREES[name]

    def fun(tree):
        return jax.tree.map(lambda leaf: jnp.sin(leaf) * 2, tree)

    assert_same(blockjac.jacobian(fun)(tree), jax.jacrev(fun)(tree))
    value, pullback = blockjac.vjp(fun, tree)
    assert_same(pullback(value), jax.vjp(fun, tree)[1](value))
    assert_same(blockjac.jvp(fun, (tree,), (tree,)), jax.jvp(fun, (tree,), (tree,)))


def test_modules_are_differentiated_and_called():
    layer = Linear(W, V[:2])
    ours = blockjac.jacobian(lambda layer, x: layer(x), (0, 1))(layer, V)
    assert_same(ours, jax.jacrev(lambda layer, x: layer(x), (0, 1))(layer, V))
    assert isinstance(ours[0], Linear)
    assert_same(blockjac.jacobian(layer)(V), jax.jacrev(layer)(V))


def test_modules_of_equinox():
    equinox = pytest.importorskip("equinox")
    network = equinox.nn.MLP(3, 2, 4, 1, key=jax.random.key(0))
    arrays, static = equinox.partition(network, equinox.is_array)

    def loss(arrays, x):
        return jnp.sum(equinox.combine(arrays, static)(x) ** 2)

    assert_same(blockjac.grad(loss)(arrays, V), jax.grad(loss)(arrays, V), 1e-9)
    assert_same(blockjac.jacobian(network)(V), jax.jacrev(network)(V), 1e-9)


# Settings


def test_strict_promotion_is_for_the_users_function_alone():
    def fun(z):
        return jnp.real(jnp.sin(z))

    z = jnp.asarray([1 + 1j, 2 - 1j])
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        ours = blockjac.grad(fun)(z[0]), blockjac.jacobian(fun)(z)
        theirs = jax.grad(fun)(z[0]), jax.jacrev(fun)(z)
        with pytest.raises(ValueError, match=r"no available implicit dtype promotion path"):
            blockjac.grad(lambda x: x * jnp.arange(1)[0])(jnp.float32(1))
    assert_same(ours, theirs)


def test_without_64_bits():
    with jax.enable_x64(False):
        for x in (1.5, np.array([1.5, 2.0]), jnp.ones(2)):
            assert_same(blockjac.jacobian(jnp.sin)(x), jax.jacrev(jnp.sin)(x), 1e-6)
        ours = blockjac.value_and_grad(lambda x: jnp.sum(x**2))(np.arange(3.0))
        assert {leaf.dtype for leaf in ours} == {jnp.dtype("float32")}
    assert blockjac.grad(jnp.sin)(1.5).dtype == jnp.float64


def test_numpy_arguments_inside_a_trace_without_64_bits():
    """NumPy's float64 is taken for float32 before any rule sees it."""
    W = np.arange(6.0).reshape(3, 2)
    loss = lambda W, x: jnp.sum(jnp.maximum(W @ x, 0.0))  # noqa: E731
    with jax.enable_x64(False), warnings.catch_warnings():
        warnings.simplefilter("error")
        ours = jax.vmap(lambda x: blockjac.grad(loss)(W, x))(np.ones((4, 2)))
        theirs = jax.vmap(lambda x: jax.grad(loss)(W, x))(np.ones((4, 2)))
    assert_same(ours, theirs, 1e-6)


@pytest.mark.slow
def test_a_process_without_64_bits():
    program = (
        "import numpy as np, blockjac, jax, jax.numpy as jnp\n"
        "x = np.array([1.5, 2.0])\n"
        "ours, theirs = blockjac.jacobian(jnp.sin)(x), jax.jacrev(jnp.sin)(x)\n"
        "assert ours.dtype == theirs.dtype == jnp.float32, ours.dtype\n"
        "np.testing.assert_allclose(ours, theirs, rtol=1e-6)\n"
        "assert blockjac.jacobian(jnp.sin, holomorphic=True)(x + 1j).dtype == jnp.complex64\n"
    )
    subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        check=True,
        env={"JAX_ENABLE_X64": "0", "JAX_PLATFORMS": "cpu"},
    )
