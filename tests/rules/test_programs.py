"""Whole programs against JAX: calls, custom rules, what is left to JAX, what a variable may be."""

import functools
import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, mlir

import blockjac
from blockjac import errors
from blockjac.rules import OPERATOR_RULES

ORDERS = ("forward", "reverse", "greedy", "auto")
X = jnp.array([0.3, -1.2, 2.0])
A = jnp.array([[2.0, 0.5, 0.1], [0.5, 3.0, 0.2], [0.1, 0.2, 1.5]])


def same_as_jax(function, *arguments, oracle=jax.jacrev, orders=ORDERS, rtol=1e-11):
    every = tuple(
        place
        for place, value in enumerate(arguments)
        if all(
            jnp.issubdtype(jnp.result_type(leaf), jnp.floating) for leaf in jax.tree.leaves(value)
        )
    )

    @jax.jit
    def all_of_them(*arguments):
        ours = [blockjac.jacobian(function, every, order=order)(*arguments) for order in orders]
        return ours, oracle(function, every)(*arguments)

    ours, wanted = all_of_them(*arguments)
    for found in ours:
        assert jax.tree.structure(found) == jax.tree.structure(wanted)
        for one, two in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
            np.testing.assert_allclose(one, two, rtol=rtol, atol=1e-13)


# Calls


@jax.jit
def squared_sine(x):
    return jnp.sin(x) ** 2


def test_one_jitted_function_called_twice():
    same_as_jax(
        lambda x, y: squared_sine(x) * squared_sine(y) + squared_sine(squared_sine(x)), X, X + 1
    )


def test_jit_in_jit_with_captured_arrays():
    weights = np.arange(9.0).reshape(3, 3)
    inner = jax.jit(lambda x: weights @ x)
    same_as_jax(jax.jit(lambda x: inner(x) * inner(jnp.cos(x))), X)


def test_remat():
    same_as_jax(jax.checkpoint(lambda x: jnp.sin(jnp.exp(x)) * x), X)


def test_vmap_and_grad_inside():
    same_as_jax(jax.vmap(jax.grad(lambda x: jnp.sum(jnp.sin(x) * x[0]))), A)


def test_custom_vmap_inside():
    @jax.custom_batching.custom_vmap
    def twice(x):
        return 2 * x

    @twice.def_vmap
    def rule(size, batched, x):
        return 2 * x, batched[0]

    same_as_jax(lambda x: twice(jnp.sin(x)), X, oracle=jax.jacfwd)
    same_as_jax(lambda x: jax.vmap(twice)(jnp.sin(x)), A, oracle=jax.jacfwd)


# Custom rules


@pytest.mark.parametrize(
    "function",
    [
        jax.nn.relu,
        jax.nn.softplus,
        jax.nn.logsumexp,
        jax.nn.gelu,
        jax.nn.silu,
        jax.nn.log_softmax,
        jax.nn.softmax,
        jnp.sinc,
        lambda x: jnp.logaddexp(x, x[0]),
        jax.scipy.special.logit,
        jax.scipy.special.entr,
    ],
)
def test_functions_with_rules_of_their_own(function):
    same_as_jax(function, jnp.array([0.1, 0.5, 0.7]))


@pytest.mark.parametrize(
    ("function", "point"),
    [
        (jax.nn.relu, [0.0, 1.0]),
        (jax.nn.logsumexp, [-np.inf, 1.0]),
        (jax.nn.logsumexp, [800.0, 1.0]),
        (jnp.sinc, [0.0, 1.0]),
        (jax.nn.softplus, [800.0, -800.0]),
    ],
)
def test_their_special_points(function, point):
    same_as_jax(function, jnp.array(point))


@jax.custom_jvp
def odd_sine(x):
    return jnp.sin(x)


@odd_sine.defjvp
def odd_sine_jvp(primals, tangents):
    return jnp.sin(primals[0]), 7 * jnp.cos(primals[0]) * tangents[0]


def test_custom_jvp_wins_over_its_body():
    same_as_jax(lambda x: odd_sine(x) * x, X)
    np.testing.assert_allclose(blockjac.grad(odd_sine)(1.0), 7 * np.cos(1.0))


def test_custom_jvp_twice():
    same_as_jax(jax.grad(lambda x: jnp.sum(odd_sine(x * x))), X)
    ours = blockjac.jacobian(blockjac.grad(lambda x: jnp.sum(odd_sine(x * x))))(X)
    np.testing.assert_allclose(
        ours, jax.jit(jax.hessian(lambda x: jnp.sum(odd_sine(x * x))))(X), rtol=1e-12
    )


def test_custom_jvp_with_a_static_and_an_idle_argument():
    @functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
    def scaled(power, x, y):
        return x**power + y

    @scaled.defjvp
    def rule(power, primals, tangents):
        x, y = primals
        return scaled(power, x, y), 5.0 * tangents[0] + tangents[1]

    same_as_jax(lambda x: scaled(3, x, jnp.ones(3)), X)
    same_as_jax(lambda x, y: scaled(3, x, y), X, X)


@jax.custom_vjp
def odd_product(x, y):
    return jnp.sin(x) * y


odd_product.defvjp(
    lambda x, y: (odd_product(x, y), (x, y)), lambda kept, q: (7 * q * kept[1], 3 * q * kept[0])
)


def test_custom_vjp_is_honoured():
    backwards = ("reverse", "greedy", "auto")
    same_as_jax(odd_product, X, X + 1, orders=backwards)
    same_as_jax(lambda x: odd_product(jnp.exp(x), x) ** 2, X, orders=backwards)


def test_stop_gradient():
    same_as_jax(lambda x: x * lax.stop_gradient(jnp.sin(x)), X)
    assert not blockjac.jacobian(lambda x: lax.stop_gradient(x))(X).any()


# Primitives left to JAX


LEFT = {
    "scan": lambda x: lax.scan(lambda c, a: (c * a + jnp.sin(c), c + a), 1.0, x),
    "map": lambda x: lax.map(jnp.sin, x),
    "fori_loop": lambda x: lax.fori_loop(0, 3, lambda i, c: jnp.sin(c) * x[i], x),
    "cond": lambda x: lax.cond(x[0] > 0, jnp.sin, jnp.cos, x) * x,
    "switch": lambda x: lax.switch(2, [jnp.sin, jnp.cos, jnp.tanh], x),
    "cholesky": lambda x: jnp.linalg.cholesky(A + jnp.outer(x, x)),
    "solve": lambda x: jnp.linalg.solve(A + jnp.diag(x) ** 2, x),
    "inv": lambda x: jnp.linalg.inv(A + jnp.outer(x, x)),
    "slogdet": lambda x: jnp.linalg.slogdet(A + jnp.outer(x, x))[1],
    "eigh": lambda x: jnp.linalg.eigh(A + jnp.outer(x, x))[0],
    "svd": lambda x: jnp.linalg.svd(A + jnp.outer(x, x), compute_uv=False),
    "qr": lambda x: jnp.linalg.qr(A + jnp.outer(x, x)),
    "fft": lambda x: jnp.abs(jnp.fft.fft(x)) ** 2,
    "rfft": lambda x: jnp.fft.irfft(jnp.fft.rfft(x, 4) * (1 + 2j), 4),
    "convolve": lambda x: jnp.convolve(x, x, mode="same"),
    "cummax": lambda x: lax.cummax(x, 0),
    "cumprod-long": lambda x: lax.cumprod(jnp.broadcast_to(2 + jnp.cos(x), (200, 3)) ** 0.01, 0)[
        -1
    ],
    "cumlogsumexp-long": lambda x: lax.cumlogsumexp(jnp.broadcast_to(x, (150, 3)), 0)[140:],
    "max-pool-wide": lambda x: lax.reduce_window(
        jnp.tile(x, 50), -jnp.inf, lax.max, (140,), (5,), "VALID"
    ),
    "scatter-mul-again": lambda x: (
        jnp.ones(2).at[jnp.array([0, 0, 1])].multiply(lax.stop_gradient(x)) * x[0]
    ),
    "reduce": lambda x: lax.reduce(x, 1.0, lambda a, b: a * b, (0,)),
    "complex": lambda x: jnp.real(jnp.conj(lax.complex(x, x * x)) * (2 + 1j)),
    "gamma": lambda x: jax.random.gamma(jax.random.key(0), jnp.exp(x)),
    "interp": lambda x: jnp.interp(x, jnp.arange(4.0), jnp.arange(4.0) ** 2),
    "expm": lambda x: jax.scipy.linalg.expm(A + jnp.outer(x, x)),
}


@pytest.mark.parametrize("name", LEFT)
def test_left_to_jax(name):
    same_as_jax(LEFT[name], X, orders=("reverse", "forward"), rtol=1e-9)


def test_while_forwards():
    def doubled(x):
        return lax.while_loop(lambda c: jnp.sum(c) < 10, lambda c: c * 2, jnp.exp(x))

    same_as_jax(doubled, X, oracle=jax.jacfwd, orders=("forward", "greedy", "auto"))


def test_an_unknown_primitive_is_told_of_once(caplog, monkeypatch):
    third = Primitive("third_power")
    third.def_impl(lambda x: x**3)
    third.def_abstract_eval(lambda x: x)
    mlir.register_lowering(third, mlir.lower_fun(lambda x: x**3, multiple_results=False))
    monkeypatch.setitem(ad.primitive_jvps, third, None)  # taken out again at the end
    ad.defjvp(third, lambda g, x: 3 * g * x * x)
    with caplog.at_level(logging.WARNING, logger="blockjac"):
        same_as_jax(lambda x: third.bind(third.bind(x)), X, oracle=jax.jacfwd, orders=("forward",))
        assert [record.args[0] for record in caplog.records] == ["third_power"]
        assert "no structured rule for 'third_power'" in caplog.text
        assert "add-a-rule" in caplog.text


def test_an_operator_is_told_of_once_where_its_structure_is_lost(caplog, monkeypatch):
    errors._reported.clear()
    monkeypatch.delitem(OPERATOR_RULES, "cholesky")
    factor = lambda x: jnp.linalg.cholesky(A[:2, :2] + jnp.outer(x, x))  # noqa: E731
    with caplog.at_level(logging.WARNING, logger="blockjac"):
        blockjac.grad(lambda x: jnp.sum(factor(x)))(X[:2])
        assert not caplog.records, "one number's gradient loses nothing"
        for order in ("reverse", "forward"):
            blockjac.jacobian(factor, order=order)(X[:2])
    assert [record.args[0] for record in caplog.records] == ["cholesky"]


# What a variable may be


def test_results_that_are_inputs_constants_and_literals():
    same_as_jax(lambda x, y: (x, y, jnp.ones(2), 3.0, jnp.sin(x), x), X, X + 1)


def test_a_variable_used_many_times():
    def many(x):
        y = jnp.sin(x)
        return y * x + y / (1 + y * y) - jnp.sum(y) * x + y[::-1] * y + jnp.outer(y, y) @ x

    same_as_jax(many, X)


@pytest.mark.slow
def test_twenty_doublings():
    order = jnp.array([2, 0, 1])

    def doublings(x):
        for _ in range(20):
            x = x + x[order]
        return x

    same_as_jax(doublings, X)


def test_a_result_that_does_not_depend():
    same_as_jax(lambda x, y: (y * 2, jnp.sum(y)), X, X)


def test_ints_among_the_arguments_and_on_the_way():
    def mixed(x, i, flags):
        chosen = jnp.where(flags, x, -x)
        places = jnp.argsort(x)
        return chosen[places] * i + x[i] * (x > 0) + places

    same_as_jax(mixed, X, jnp.array(2), jnp.array([True, False, True]))


def test_trees():
    def tree(p, x):
        return {"y": p["w"] @ x + p["b"], "n": (p["b"], jnp.sum(x))}

    same_as_jax(tree, {"w": A, "b": X}, X)


def test_reshard_on_a_mesh():
    mesh = jax.make_mesh((1,), ("data",))
    with jax.sharding.use_mesh(mesh) if hasattr(jax.sharding, "use_mesh") else jax.set_mesh(mesh):
        spread = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
        same_as_jax(lambda x: jax.sharding.reshard(jnp.sin(x), spread), X)


def test_vmapped_grad_of_a_program_left_to_jax():
    def program(x):
        return jnp.sum(lax.scan(lambda c, a: (c * a, c + a), x[0], x)[1])

    ours = jax.vmap(blockjac.grad(program))(A)
    np.testing.assert_allclose(ours, jax.vmap(jax.grad(program))(A), rtol=1e-12)


def test_no_numbers_are_stored_for_what_moves_entries():
    """What a rule promises: index maps alone, or lookups of integers."""

    def floats_stored(function, *arguments):
        block = blockjac.block_jacobian(function)(*arguments)
        leaves = jax.tree.leaves(block)
        return sum(leaf.size for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.floating))

    x = jnp.arange(12.0).reshape(4, 3)
    rows = jnp.array([2, 0, 2])
    moving = [
        lambda x: x[1:, ::-1].T.reshape(9),
        lambda x: jnp.pad(jnp.tile(x, (2, 1)), 1),
        lambda x: jnp.stack(jnp.unstack(x, axis=1)),
        lambda x: jnp.concatenate([x, x]),
        lambda x: x[rows],
        lambda x: jnp.sort(x, axis=0),
        lambda x: lax.top_k(x, 2)[0],
        lambda x: lax.dynamic_slice(x, (rows[0], rows[1]), (2, 2)),
        lambda x: lax.dynamic_update_slice(x, jnp.ones((2, 2)), (rows[0], rows[1])),
        lambda x: x.at[rows].set(1.0),
        lambda x: jnp.zeros((5, 3)).at[jnp.arange(4)].add(x),
        lambda x: jnp.where(x > 2, x, 0.0),
        lambda x: lax.cumsum(x, 0),
        lambda x: lax.reduce_window(x, 0.0, lax.add, (2, 2), (1, 1), "SAME"),
        lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (2, 2), (1, 1), "SAME"),
    ]
    assert [floats_stored(function, x) for function in moving] == [0] * len(moving)


def test_a_running_sum_keeps_other_axes_and_its_gradient_is_a_running_sum():
    x = jnp.arange(12.0).reshape(4, 3)
    block = blockjac.block_jacobian(lambda x: lax.cumsum(jnp.sin(x), 0))(x)
    assert block.structure.startswith("δ[j,j']")
    assert block.stored == 12 + 4 * 4  # the cosines, and the mask of the triangle
    jaxpr = jax.make_jaxpr(blockjac.grad(lambda x: jnp.sum(lax.cumsum(x, 0) ** 2)))(x)
    names = [equation.primitive.name for equation in jaxpr.eqns]
    assert names.count("cumsum") == 2
    assert "dot_general" not in names
