"""Loops of known length: values, derivatives both ways, the structure and memory that they keep."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.extend.core import jaxprs_in_params
from support.precision import assert_close
from support.same_as_jax import loops_in, same_as_jax, same_second_order

import blockjac

RANDOM = np.random.default_rng(0)
STEPS, BATCH, INPUTS, UNITS = 5, 3, 2, 4
W = jnp.asarray(RANDOM.normal(size=(UNITS, UNITS)) / 2)
U = jnp.asarray(RANDOM.normal(size=(INPUTS, UNITS)))
X = jnp.asarray(RANDOM.normal(size=(STEPS, BATCH, INPUTS)))
H = jnp.asarray(RANDOM.normal(size=(BATCH, UNITS)))


def recurrent(w, u, h, x, **options):
    def step(h, x):
        h = jnp.tanh(h @ w + x @ u)
        return h, h**2

    return lax.scan(step, h, x, **options)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"reverse": True}, {"unroll": 2}])
def test_recurrent_network(options):
    same_as_jax(lambda *arguments: recurrent(*arguments, **options), W, U, H, X)


@pytest.mark.slow
def test_recurrent_network_at_second_order():
    same_second_order(recurrent, W, U, H, X)


@pytest.mark.slow
def test_gradient_pullback_and_pushforward():
    def loss(w, u, h, x):
        return jnp.sum(recurrent(w, u, h, x)[1])

    arguments = (W, U, H, X)
    wanted = jax.grad(loss, (0, 1, 2, 3))(*arguments)
    value, pull = blockjac.vjp(loss, *arguments)
    for found in (blockjac.grad(loss, (0, 1, 2, 3))(*arguments), pull(jnp.ones_like(value))):
        for one, two in zip(found, wanted, strict=True):
            assert_close(one, two, rtol=1e-11, atol=1e-13)
    rate = blockjac.jvp(recurrent, arguments, arguments)[1]
    for one, two in zip(
        jax.tree.leaves(rate),
        jax.tree.leaves(jax.jvp(recurrent, arguments, arguments)[1]),
        strict=True,
    ):
        assert_close(one, two, rtol=1e-11, atol=1e-13)


def test_a_gradient_is_two_loops_and_a_pushforward_one():
    def loss(w):
        return jnp.sum(recurrent(W * w, U * w, H * w, X * w)[1])

    assert loops_in(blockjac.grad(loss), 1.0) == 2
    assert loops_in(blockjac.jacobian(lambda w: recurrent(W * w, U, H * w, X)[1]), 1.0) == 1


@pytest.mark.slow
def test_what_does_not_move_is_not_pushed_through_a_loop_inside():
    """Forwards through a loop in a loop, for one variable at a time: the other one stands still."""

    def program(h, w):
        def twice(h, _):
            return lax.fori_loop(0, 2, lambda i, h: jnp.tanh(h @ w), h), None

        return jnp.tile(lax.scan(twice, jnp.sin(h), None, 3)[0], 50)

    def loops(jaxpr):
        inner = [loops(one) for each in jaxpr.eqns for one in jaxprs_in_params(each.params)]
        return sum(each.primitive.name == "scan" for each in jaxpr.eqns) + sum(inner)

    def needed(argnums):
        jacobian = blockjac.jacobian(program, argnums, order="forward")
        return loops(jax.make_jaxpr(jacobian)(H, W).jaxpr)

    values = loops(jax.make_jaxpr(program)(H, W).jaxpr)
    assert needed((0, 1)) == needed(0) + needed(1) - values
    same_as_jax(program, H, W, orders=("forward",))


@pytest.mark.slow
def test_under_and_over_jax_transformations():
    def loss(h, x):
        return jnp.sum(recurrent(W, U, h, x)[1])

    many = jnp.stack([H, 2 * H])
    ours = jax.vmap(blockjac.grad(loss), (0, None))(many, X)
    assert_close(ours, jax.vmap(jax.grad(loss), (0, None))(many, X), rtol=1e-11)
    of_gradient = blockjac.jacobian(jax.grad(loss))(H, X)
    assert_close(of_gradient, jax.jit(jax.hessian(loss))(H, X), rtol=1e-9, atol=1e-12)
    by_jax = jax.jacfwd(blockjac.grad(loss))(H, X)
    assert_close(by_jax, of_gradient, rtol=1e-9, atol=1e-12)


# What else a loop may look like

V = jnp.array([0.3, -1.2, 2.0])

LOOPS = {
    "counter": lambda x: lax.fori_loop(0, 4, lambda i, c: jnp.sin(c) + x[i % 3] * c, x),
    "map": lambda x: lax.map(lambda v: v * jnp.sum(x) + jnp.sin(v), x),
    "only-carry": lambda x: lax.scan(lambda c, _: (c * x, None), x, None, 3)[0],
    "carry-passes-through": lambda x: lax.scan(lambda c, v: ((c[0], c[1] * v), c[0]), (x, x), x),
    "integer-carry": lambda x: lax.scan(lambda c, v: ((c[0] + 1, c[1] * v), c[0]), (0, x), x)[0][1],
    "carry-starts-constant": lambda x: lax.scan(lambda c, v: (c + v**2, c), 0.0, x),
    "dead-result": lambda x: lax.scan(lambda c, v: (c * v, jnp.sin(c)), x, x)[0],
    "slices-unused": lambda x: lax.scan(lambda c, v: (c * 2, c), x, x)[1],
    "one-step": lambda x: lax.scan(lambda c, v: (c * v, c), x, x[:1]),
    "no-step": lambda x: lax.scan(lambda c, v: (c * v, c), x, x[:0]),
    "masked": lambda x: lax.scan(lambda c, v: (jnp.where(c > 0, c * v, v), c), x, x),
    "same-array-thrice": lambda x: lax.scan(lambda c, v: (c * x + v, c), x, jnp.outer(x, x)),
    "loop-in-loop": lambda x: lax.scan(
        lambda c, v: (lax.fori_loop(0, 2, lambda i, d: jnp.cos(d) * v, c), jnp.sum(c)), x, x
    ),
    "associative": lambda x: lax.associative_scan(lambda a, b: a * b + b, x),
    "axes-of-size-one": lambda x: lax.scan(
        lambda c, v: (jnp.sin(c) * v[:, None] * x[:1], c[0, 0]), x[:1, None], x[:, None]
    ),
    "captured-array": lambda x: lax.scan(lambda c, v: (jnp.asarray(W[:3, :3]) @ c * v, c), x, x),
}


@pytest.mark.parametrize("name", LOOPS)
def test_loops(name):
    same_as_jax(LOOPS[name], V)


@pytest.mark.parametrize(
    "name", ["counter", "map", "masked", "loop-in-loop", "axes-of-size-one", "one-step"]
)
def test_loops_at_second_order(name):
    same_second_order(LOOPS[name], V)


def test_complex_carry():
    z, zs = jnp.array([1 + 2j, 0.5j]), jnp.asarray(RANDOM.normal(size=(4, 2)) + 1j)

    def function(z, zs):
        return lax.scan(lambda c, x: (c * x + 1j, jnp.sin(c)), z, zs)

    wanted = jax.jit(jax.jacrev(function, (0, 1), holomorphic=True))(z, zs)
    for order in ("reverse", "forward"):
        found = blockjac.jacobian(function, (0, 1), holomorphic=True, order=order)(z, zs)
        for one, two in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
            assert_close(one, two, rtol=1e-10)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_low_precision_stays(dtype):
    arguments = [array.astype(dtype) for array in (W, U, H, X)]
    for order in ("reverse", "forward"):
        found = blockjac.jacobian(recurrent, (0, 1, 2, 3), order=order)(*arguments)
        assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {jnp.dtype(dtype)}


# Structure and memory


def test_a_map_keeps_the_delta_of_its_steps():
    for order in ("auto", "reverse", "forward"):
        block = blockjac.block_jacobian(lambda x: lax.map(jnp.sin, x), order=order)(X)
        assert block.stored == X.size


def test_a_map_keeps_its_steps_apart_for_what_they_share():
    function = lambda w: lax.map(lambda v: jnp.sin(v) * w, X)  # noqa: E731
    block = blockjac.block_jacobian(function, order="reverse")(U[:, 0])
    assert block.stored == X.size  # a delta between the last axis and w's


def test_a_recurrent_network_keeps_the_delta_of_its_batch():
    states = lambda x: recurrent(W, U, H, x)[1]  # noqa: E731
    last = lambda h: recurrent(W, U, h, X)[0]  # noqa: E731
    for order in ("auto", "reverse", "forward"):
        block = blockjac.block_jacobian(states, order=order)(X)
        assert block.stored == BATCH * STEPS * UNITS * STEPS * INPUTS
        assert blockjac.block_jacobian(last, order=order)(H).stored == BATCH * UNITS * UNITS


def test_elementwise_carries_stay_diagonal():
    x = jnp.asarray(RANDOM.normal(size=50))
    block = blockjac.block_jacobian(lambda x: lax.fori_loop(0, 7, lambda i, c: jnp.sin(c), x))(x)
    assert block.stored == 50


def test_a_gradient_needs_no_more_memory_than_jax():
    x = jnp.zeros((200, 8, 16))
    w, u, h = jnp.zeros((32, 32)), jnp.zeros((16, 32)), jnp.zeros((8, 32))

    def loss(w, u):
        return jnp.sum(recurrent(w, u, h, x)[0])

    def temporary(gradient):
        compiled = jax.jit(gradient).lower(w, u).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert temporary(blockjac.grad(loss, (0, 1))) <= 1.1 * temporary(jax.grad(loss, (0, 1)))


def test_a_plan_and_its_run_agree_on_structure():
    """A carried block's structure is planned first; a plan that is wrong must not pass silently."""
    from blockjac.blocks import Block
    from blockjac.control_flow.carry_structure import carry_structure_of

    form = carry_structure_of(Block.identity((3,), jnp.float64))
    with pytest.raises(ValueError, match="lacks a delta"):
        form.array(Block.from_dense(jnp.ones((3, 3)), 1))
