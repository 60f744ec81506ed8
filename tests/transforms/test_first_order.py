"""The transforms beside their JAX namesakes: trees, shapes, dtypes, weak types, values."""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import blockjac

RNG = np.random.default_rng(0)


def normal(*shape):
    return jnp.asarray(RNG.normal(size=shape))


def assert_same(ours, theirs, rtol=1e-12, weak=True):
    """Same tree, shapes, dtypes, weak types (unless told otherwise) and values."""
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for own, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert np.shape(own) == np.shape(other)
        assert jnp.result_type(own) == jnp.result_type(other)
        if weak:
            is_number = isinstance(other, int | float | complex)  # in JAX, a constant as it was
            assert getattr(own, "weak_type", False) == getattr(other, "weak_type", is_number)
        if jnp.result_type(own) != jax.dtypes.float0:
            np.testing.assert_allclose(own, other, rtol=rtol, atol=1e-13)


class Point(NamedTuple):
    x: jax.Array
    y: jax.Array


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["weight", "bias"], meta_fields=["name"]
)
@dataclasses.dataclass
class Layer:
    weight: jax.Array
    bias: jax.Array | None
    name: str = "layer"


@jax.custom_jvp
def tripled_slope(x):
    return jnp.sin(x)


tripled_slope.defjvp(lambda primals, tangents: (jnp.sin(primals[0]), 3 * tangents[0]))


@jax.custom_vjp
def sevenfold(x):
    return jnp.sin(x)


sevenfold.defvjp(lambda x: (jnp.sin(x), x), lambda x, q: (7 * jnp.cos(x) * q,))

X = normal(3, 4)
W = normal(4, 2)
V = normal(4)
PARAMS = {"W": W, "b": normal(2), "none": None, "inner": [normal(2), (normal(),)]}


def network(params, x):
    h = jnp.tanh(x @ params["W"] + params["b"])
    return {"h": h, "sum": jnp.sum(h * params["inner"][0]) * params["inner"][1][0]}


def loss(params, x):
    answer = network(params, x)
    return jnp.mean(answer["h"] ** 2) + answer["sum"]


FUNCTIONS = {
    "elementwise": (lambda x: jnp.sin(x) * x, (V,)),
    "scalar-to-scalar": (lambda x: x**3 + jnp.exp(x), (jnp.array(0.5),)),
    "scalar-to-vector": (lambda x: x * V, (jnp.array(0.5),)),
    "vector-to-scalar": (lambda x: jnp.sum(x**2), (V,)),
    "matrix-product": (lambda x: x @ W, (X,)),
    "python-float": (lambda x: x**2 * 3, (1.5,)),
    "python-float-times-array": (lambda x: x * V, (1.5,)),
    "numpy": (lambda x: jnp.cumsum(x), (np.arange(4.0),)),
    "empty": (lambda x: x * 2, (jnp.zeros((0,)),)),
    "empty-output": (lambda x: x[:0], (V,)),
    "identity": (lambda x: x, (X,)),
    "constant": (lambda x: jnp.ones(3), (X,)),
    "numpy-constant": (lambda x: np.ones(3), (X,)),
    "python-constant": (lambda x: 1.0, (X,)),
    "input-and-constant": (lambda x: (x, 2.0, [x, jnp.zeros(2)]), (V,)),
    "same-output-twice": (lambda x: (y := jnp.sin(x), y), (V,)),
    "tree": (network, (PARAMS, X)),
    "namedtuple": (lambda p: Point(p.x * p.y, p.x + p.y), (Point(V, V + 1),)),
    "dataclass": (
        lambda layer, x: Layer(x @ layer.weight, None, layer.name),
        (Layer(W, None), X),
    ),
    "float32": (lambda x: jnp.sin(x), (V.astype(jnp.float32),)),
    "float32-to-float64": (lambda x: jnp.sin(x.astype(jnp.float64)), (V.astype(jnp.float32),)),
    "bfloat16-to-float32": (
        lambda x: x.astype(jnp.float32) * 2,
        (V.astype(jnp.bfloat16),),
    ),
    "relu": (jax.nn.relu, (jnp.array([-1.0, 0.0, 2.0]),)),
    "softplus": (jax.nn.softplus, (V,)),
    "logsumexp": (jax.nn.logsumexp, (X,)),
    "softmax": (jax.nn.softmax, (X,)),
    "custom_jvp": (tripled_slope, (V,)),
    "custom_vjp": (sevenfold, (V,)),
    "nested-jit": (jax.jit(lambda x: jax.jit(jnp.sin)(x) * jax.jit(jnp.sin)(2 * x)), (V,)),
    "checkpoint": (jax.checkpoint(lambda x: jnp.sin(jnp.sin(x))), (V,)),
    "scan": (
        lambda x: lax.scan(lambda c, a: (jnp.sin(c) * a, c * a), x[0], x),
        (V,),
    ),
    "cond": (lambda x: lax.cond(x[0] > 0, jnp.sin, jnp.cos, x), (V,)),
    "fori": (lambda x: lax.fori_loop(0, 3, lambda i, c: c * jnp.sin(x) + i, x), (V,)),
    "stop-gradient": (lambda x: lax.stop_gradient(x) * x, (V,)),
    "indexing": (lambda x: x[1:, jnp.array([0, 2, 2])].T, (X,)),
    "solve": (lambda a: jnp.linalg.solve(a @ a.T + jnp.eye(3), a[:, 0]), (X,)),
    "partial": (functools.partial(lambda a, x: a * x, 2.0), (V,)),
    "builtin": (abs, (V,)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_jacobian_is_jacrev(name):
    fun, args = FUNCTIONS[name]
    assert_same(blockjac.jacobian(fun)(*args), jax.jacrev(fun)(*args))


@pytest.mark.parametrize("order", ["reverse", "forward", "greedy"])
@pytest.mark.parametrize(
    "name",
    ["tree", "same-output-twice", "input-and-constant", "scan", "solve", "softmax", "custom_jvp"],
)
def test_every_order_gives_the_jacobian(name, order):
    fun, args = FUNCTIONS[name]
    ours = jax.jit(blockjac.jacobian(fun, order=order))(*args)
    assert_same(ours, jax.jit(jax.jacrev(fun))(*args), rtol=1e-10)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_blocks_are_the_jacobian(name):
    fun, args = FUNCTIONS[name]
    blocks = blockjac.block_jacobian(fun)(*args)
    dense = jax.tree.map(
        lambda block: block.dense(), blocks, is_leaf=lambda one: isinstance(one, blockjac.Block)
    )
    theirs = jax.jacrev(fun)(*args)
    assert jax.tree.structure(dense) == jax.tree.structure(theirs)
    for own, other in zip(jax.tree.leaves(dense), jax.tree.leaves(theirs), strict=True):
        assert own.shape == other.shape
        np.testing.assert_allclose(own, other, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_vjp_is_jax_vjp(name):
    fun, args = FUNCTIONS[name]
    value, pullback = blockjac.vjp(fun, *args)
    wanted, theirs = jax.vjp(fun, *args)
    assert_same(value, wanted)
    cotangent = jax.tree.map(lambda leaf: jnp.full_like(leaf, 0.7), wanted)
    # Ours are weak where the input is; JAX's depend on the way through the function too.
    assert_same(pullback(cotangent), theirs(cotangent), weak=False)


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name != "custom_vjp"])
def test_jvp_is_jax_jvp(name):
    fun, args = FUNCTIONS[name]
    tangents = jax.tree.map(lambda leaf: 0.7 * leaf, args)
    assert_same(blockjac.jvp(fun, args, tangents), jax.jvp(fun, args, tangents))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_grad_of_a_sum_is_jax_grad(name):
    fun, args = FUNCTIONS[name]

    def total(*args):
        return sum((jnp.sum(leaf) for leaf in jax.tree.leaves(fun(*args))), jnp.zeros(()))

    assert_same(blockjac.value_and_grad(total)(*args), jax.value_and_grad(total)(*args))
    assert_same(blockjac.grad(total)(*args), jax.grad(total)(*args))


@pytest.mark.parametrize(
    "argnums", [0, 1, 2, -1, -3, (0,), (0, 1), (2, 0), [0, 2], (-1,), np.array([1, 0])]
)
def test_argnums(argnums):
    def fun(x, y, z):
        return jnp.sin(x) * y + x * z

    args = (V, V + 1, 2.0)
    assert_same(blockjac.jacobian(fun, argnums)(*args), jax.jacrev(fun, argnums)(*args))
    total = lambda *args: jnp.sum(fun(*args))  # noqa: E731
    assert_same(blockjac.grad(total, argnums)(*args), jax.grad(total, argnums)(*args))


def test_a_numpy_integer_is_one_argnum():
    assert_same(blockjac.grad(lambda x, y: x * y, np.int64(1))(2.0, 3.0), jnp.asarray(2.0))


def test_trees_without_leaves():
    assert blockjac.jacobian(lambda x: ())(V) == ()
    assert blockjac.jacobian(lambda x: V)({"a": None}) == {"a": None}
    assert blockjac.grad(lambda x: 1.0)(()) == ()


def test_keyword_arguments_pass_through_undifferentiated():
    def fun(x, *, scale, mode="sin", extra=None):
        assert mode in ("sin", "cos")
        return getattr(jnp, mode)(x) * scale["s"]

    keywords = {"scale": {"s": V}, "mode": "cos", "extra": None}
    assert_same(blockjac.jacobian(fun)(V, **keywords), jax.jacrev(fun)(V, **keywords))


def test_arguments_beside_may_be_anything():
    def fun(x, mode, count, flag, function, array, key):
        assert mode == "same"
        assert flag is True
        y = jnp.reshape(x, (count, -1)) if flag else x
        return function(y) * array.astype(x.dtype) + jax.random.normal(key, y.shape)

    args = (V, "same", 2, True, jnp.sin, np.arange(4).reshape(2, 2), jax.random.key(0))
    assert_same(blockjac.jacobian(fun)(*args), jax.jacrev(fun)(*args))


def test_bool_and_integer_arrays_beside():
    def fun(x, mask, places):
        return jnp.where(mask, x, 0.0)[places]

    args = (V, np.array([True, False, True, True]), jnp.array([3, 0]))
    assert_same(blockjac.jacobian(fun)(*args), jax.jacrev(fun)(*args))


@pytest.mark.parametrize("transform", ["grad", "value_and_grad"])
def test_has_aux_of_gradients(transform):
    def fun(x):
        return jnp.sum(x**2), {"x": x, "twice": [2 * x], "array": np.ones(2), "name": "n", "k": 3}

    ours = getattr(blockjac, transform)(fun, has_aux=True)(V)
    theirs = getattr(jax, transform)(fun, has_aux=True)(V)
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for own, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert np.array_equal(own, other)


def test_has_aux_of_jacobians_and_products():
    def fun(x):
        return jnp.sin(x), (x, {"sum": jnp.sum(x)})

    assert_same(
        blockjac.jacobian(fun, has_aux=True)(V),
        jax.jacrev(fun, has_aux=True)(V),
    )
    block, aux = blockjac.block_jacobian(fun, has_aux=True)(V)
    np.testing.assert_allclose(block.dense(), np.diag(np.cos(V)))
    assert_same(aux, fun(V)[1])
    value, pullback, aux = blockjac.vjp(fun, V, has_aux=True)
    assert_same((value, aux), fun(V))
    assert_same(pullback(V), (V * jnp.cos(V),))
    assert_same(
        blockjac.jvp(fun, (V,), (V,), has_aux=True),
        jax.jvp(fun, (V,), (V,), has_aux=True),
    )


def test_has_aux_runs_the_function_once():
    calls = []

    def fun(x):
        jax.debug.callback(lambda: calls.append(1))
        return jnp.sin(x), x

    for transform in (blockjac.jacobian, blockjac.block_jacobian):
        calls.clear()
        transform(fun, has_aux=True)(V)
        jax.effects_barrier()
        assert len(calls) == 1


def test_a_point_is_evaluated_once_and_pulled_back_often():
    calls = []

    def fun(x):
        jax.debug.callback(lambda: calls.append(1))
        return jnp.sin(x) * x

    _, pullback = blockjac.vjp(fun, V)
    for scale in (1.0, 2.0):
        np.testing.assert_allclose(
            pullback(scale * V)[0], scale * V * (jnp.cos(V) * V + jnp.sin(V)), rtol=1e-12
        )
    jax.effects_barrier()
    assert len(calls) == 1


# Complex numbers


@pytest.mark.slow
def test_holomorphic():
    Z = V + 1j * V[::-1]

    def fun(z):
        return jnp.sin(z) * z[0]

    assert_same(blockjac.jacobian(fun, holomorphic=True)(Z), jax.jacrev(fun, holomorphic=True)(Z))
    total = lambda z: jnp.sum(fun(z))  # noqa: E731
    assert_same(blockjac.grad(total, holomorphic=True)(Z), jax.grad(total, holomorphic=True)(Z))


def test_real_functions_of_complex_numbers():
    Z = V + 1j * V[::-1]

    def fun(z):
        return jnp.abs(z) ** 2 + jnp.real(z * z) + jnp.imag(jnp.conj(z))

    assert_same(blockjac.jacobian(fun)(Z), jax.jacrev(fun)(Z))
    assert_same(blockjac.grad(lambda z: jnp.sum(fun(z)))(Z), jax.grad(lambda z: jnp.sum(fun(z)))(Z))


def test_products_of_complex_functions():
    Z = V + 1j * V[::-1]

    def fun(z, x):
        return jnp.conj(z) * x + z**2, jnp.imag(z)

    value, pullback = blockjac.vjp(fun, Z, V)
    wanted, theirs = jax.vjp(fun, Z, V)
    assert_same(value, wanted)
    cotangents = (Z[::-1], V)
    assert_same(pullback(cotangents), theirs(cotangents))
    assert_same(blockjac.jvp(fun, (Z, V), (Z**2, V)), jax.jvp(fun, (Z, V), (Z**2, V)))


# Integers


def test_allow_int_gives_float0():
    def fun(x, n):
        return jnp.sum(x) * n.astype(float) ** 2

    args = (V, jnp.array(3))
    assert_same(
        blockjac.grad(fun, (0, 1), allow_int=True)(*args),
        jax.grad(fun, (0, 1), allow_int=True)(*args),
    )
    by_integers = blockjac.jacobian(lambda n: n * V, allow_int=True)(jnp.array([1, 2, 3, 4]))
    assert by_integers.shape == (4, 4)
    assert by_integers.dtype == jax.dtypes.float0


def test_products_with_integers():
    def fun(x, n):
        return x * n, n + 1

    n = jnp.arange(4)
    value, pullback = blockjac.vjp(fun, V, n)
    wanted, theirs = jax.vjp(fun, V, n)
    assert_same(value, wanted)
    nothing = np.zeros(4, jax.dtypes.float0)
    assert_same(pullback((V, nothing))[0], theirs((V, nothing))[0])
    assert pullback((V, nothing))[1].dtype == jax.dtypes.float0
    ours = blockjac.jvp(fun, (V, n), (V, nothing))
    assert_same(ours[0], wanted)
    assert_same(ours[1][0], V * n)
    assert ours[1][1].dtype == jax.dtypes.float0


# Inside other transforms

TRANSFORMED = {
    "jit": lambda grad, jacobian: jax.jit(grad(loss))(PARAMS, X),
    "vmap": lambda grad, jacobian: jax.vmap(grad(loss), (None, 0))(PARAMS, X[:, None]),
    "vmap-of-jacobian": lambda grad, jacobian: jax.vmap(jacobian(jnp.tanh))(X),
    "grad": lambda grad, jacobian: jax.grad(
        lambda p: sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(grad(loss)(p, X)))
    )(PARAMS),
    "jvp": lambda grad, jacobian: jax.jvp(
        lambda x: jacobian(lambda a: jnp.sin(a) @ W)(x), (X,), (X,)
    ),
    "jacfwd": lambda grad, jacobian: jax.jacfwd(jacobian(lambda x: jnp.sin(x) * x[0]))(V),
    "jacrev": lambda grad, jacobian: jax.jacrev(jacobian(lambda x: jnp.sin(x) * x[0]))(V),
    "scan": lambda grad, jacobian: lax.scan(
        lambda x, _: (x - 0.1 * grad(lambda a: jnp.sum(jnp.sin(a) ** 2))(x), x), V, length=4
    ),
    "while": lambda grad, jacobian: lax.while_loop(
        lambda x: jnp.sum(x**2) > 0.1, lambda x: x - 0.1 * grad(lambda a: jnp.sum(a**2))(x), V
    ),
    "cond": lambda grad, jacobian: lax.cond(V[0] > 0, jacobian(jnp.sin), jacobian(jnp.cos), V),
    "itself": lambda grad, jacobian: jacobian(grad(lambda x: jnp.sum(jnp.sin(x) * x[0] ** 2)))(V),
    "third": lambda grad, jacobian: jacobian(
        jacobian(grad(lambda x: jnp.sum(jnp.sin(x) * x[0] ** 2)))
    )(V),
    "grad-of-grad-of-grad": lambda grad, jacobian: grad(grad(grad(lambda x: x**4 * jnp.sin(x))))(
        1.3
    ),
    "of-jax-grad": lambda grad, jacobian: jacobian(jax.grad(lambda x: jnp.sum(jnp.tanh(x) ** 3)))(
        V
    ),
    "of-vmap": lambda grad, jacobian: jacobian(jax.vmap(lambda x: jnp.sin(x) * jnp.sum(x)))(X),
    "over-a-tracer": lambda grad, jacobian: jax.jit(
        lambda a: grad(lambda x: jnp.sum(a * jnp.sin(a * x)))(V)
    )(V),
    "over-a-batch-tracer": lambda grad, jacobian: jax.vmap(
        lambda a: grad(lambda x: jnp.sum(a * jnp.sin(a * x)))(V)
    )(X),
    "of-a-captured-array": lambda grad, jacobian: jax.jit(
        lambda: grad(lambda x: jnp.sum(jnp.sin(x)))(V)
    )(),
    "custom_jvp-twice": lambda grad, jacobian: grad(grad(jax.nn.softplus))(0.3),
    "remat": lambda grad, jacobian: jax.jit(jax.checkpoint(grad(loss)))(PARAMS, X),
}


@pytest.mark.parametrize("name", TRANSFORMED)
def test_inside_other_transforms(name):
    case = TRANSFORMED[name]
    theirs = case(jax.grad, jax.jacrev)
    assert_same(case(blockjac.grad, blockjac.jacobian), theirs, rtol=1e-10)


def test_products_inside_other_transforms():
    ours = jax.jit(jax.vmap(lambda x, q: blockjac.vjp(jnp.tanh, x)[1](q)[0]))(X, X)
    assert_same(ours, X * (1 - jnp.tanh(X) ** 2))
    hvp = lambda grad, jvp: jvp(grad(lambda x: jnp.sum(x**3)), (V,), (V,))[1]  # noqa: E731
    assert_same(hvp(blockjac.grad, blockjac.jvp), hvp(jax.grad, jax.jvp))
    pulled = jax.vmap(blockjac.vjp(lambda x: jnp.sin(x) * x[0], V)[1])(jnp.eye(4))
    assert_same(pulled, jax.vmap(jax.vjp(lambda x: jnp.sin(x) * x[0], V)[1])(jnp.eye(4)))


def test_blocks_come_out_of_jit():
    block = jax.jit(blockjac.block_jacobian(lambda x: jnp.sin(x) @ W))(X)
    theirs = jax.jacrev(lambda x: jnp.sin(x) @ W)(X)
    np.testing.assert_allclose(block.dense(), theirs, rtol=1e-12, atol=1e-14)
    assert block.stored < theirs.size


def test_disabled_jit():
    with jax.disable_jit():
        ours = blockjac.grad(loss)(PARAMS, X)
    assert_same(ours, jax.grad(loss)(PARAMS, X))


def test_closures_are_always_fresh():
    scale = {"by": 2.0}
    slope = blockjac.grad(lambda x: scale["by"] * x)
    assert slope(1.0) == 2.0
    scale["by"] = 5.0
    assert slope(1.0) == 5.0


def test_chain_rule_sums_over_all_axes_of_the_variable():
    inner, outer = lambda x: jnp.sin(x @ W), lambda y: jnp.tanh(y[:2] * y[1:])
    y = inner(X)
    ours = blockjac.chain_rule(jax.jacrev(outer)(y), jax.jacrev(inner)(X), y.shape)
    np.testing.assert_allclose(ours, jax.jacrev(lambda x: outer(inner(x)))(X), rtol=1e-12)
    assert blockjac.chain_rule(3.0, 2.0, ()) == 6.0


# Names


@pytest.mark.parametrize(
    ("transform", "what"),
    [
        (blockjac.jacobian, "Jacobian"),
        (blockjac.block_jacobian, "Block Jacobian"),
        (blockjac.grad, "Gradient"),
        (blockjac.value_and_grad, "Value and gradient"),
    ],
)
def test_the_transformed_function_says_what_it_is(transform, what):
    def energy(state, scale=1.0):
        """Of a state."""

    derived = transform(energy, argnums=(0,))
    assert derived.__name__ == "energy"
    assert derived.__doc__.startswith(
        f"{what} of energy with respect to positional argument(s) (0,)"
    )
    assert derived.__wrapped__ is energy
    assert transform(functools.partial(energy, scale=2.0)).__name__ == "partial"
