"""`jax.checkpoint`: the same derivatives, with less kept in between."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.same_as_jax import same_as_jax, same_second_order

import blockjac

V = jnp.array([0.3, -1.2, 2.0])
A = jnp.asarray(np.random.default_rng(0).normal(size=(4, 3)))


def layer(x):
    z = A @ jnp.sin(x)
    return x * (z @ jnp.cos(z))


POLICIES = jax.checkpoint_policies
CHOICES = {
    "default": None,
    "everything": POLICIES.everything_saveable,
    "nothing": POLICIES.nothing_saveable,
    "dots": POLICIES.dots_saveable,
    "dots-without-batch": POLICIES.dots_with_no_batch_dims_saveable,
    "by-name": POLICIES.save_only_these_names("z"),
}


@pytest.mark.parametrize("name", CHOICES)
def test_policies(name):
    function = jax.checkpoint(layer, policy=CHOICES[name])
    same_as_jax(lambda x: function(jnp.tanh(function(x))), V)


@pytest.mark.parametrize("prevent", [True, False])
def test_second_order(prevent):
    same_second_order(jax.checkpoint(layer, prevent_cse=prevent), V)


def test_in_loops_and_branches():
    function = jax.checkpoint(layer)

    def program(x):
        def step(c, v):
            return jax.lax.cond(v > 0, function, jnp.sin, c), c

        return jax.lax.scan(step, x, x)

    same_as_jax(program, V)


def kept(vjp, function, x):
    return sum(leaf.nbytes for leaf in jax.tree.leaves(vjp(function, x)[1]))


def test_less_is_kept():
    x = jnp.ones((1000,))

    def chain(x):
        for _ in range(10):
            x = jnp.sin(x) * jnp.cos(x)
        return jnp.sum(x)

    plain, recomputed = (kept(blockjac.vjp, f, x) for f in (chain, jax.checkpoint(chain)))
    assert recomputed <= kept(jax.vjp, jax.checkpoint(chain), x)
    assert recomputed < plain / 5


def test_what_the_policy_saves_is_not_computed_again():
    def products(policy):
        function = jax.checkpoint(layer, policy=policy)
        jaxpr = jax.make_jaxpr(blockjac.grad(lambda x: jnp.sum(function(x))))(V)
        return str(jaxpr).count("dot_general")

    assert products(POLICIES.dots_saveable) < products(POLICIES.nothing_saveable)


def test_values_come_once_more_behind_a_barrier():
    jaxpr = str(jax.make_jaxpr(blockjac.grad(lambda x: jnp.sum(jax.checkpoint(layer)(x))))(V))
    assert "optimization_barrier" in jaxpr


@pytest.mark.parametrize(("prevent", "operands"), [((False, True), 2), (({"W": True}, True), 3)])
def test_a_barrier_for_some_operands(prevent, operands):
    """Beside the cotangent, which is always behind it."""
    product = lambda W, x: x @ jax.tree.leaves(W)[0]  # noqa: E731
    function = jax.checkpoint(product, prevent_cse=prevent)
    W = {"W": A.T} if isinstance(prevent[0], dict) else A.T
    loss = lambda W, x: jnp.sum(function(W, x) ** 2)  # noqa: E731
    program = jax.make_jaxpr(blockjac.grad(loss, (0, 1)))(W, V)
    (barrier,) = [one for one in program.eqns if one.primitive.name == "optimization_barrier"]
    assert len(barrier.invars) == operands
    none = jax.checkpoint(product, prevent_cse=(False, False))
    jaxpr = jax.make_jaxpr(blockjac.grad(lambda x: jnp.sum(none(A.T, x) ** 2)))(V)
    assert "optimization_barrier" not in str(jaxpr)


def test_what_must_not_run_twice_is_refused():
    @jax.checkpoint
    def once(x):
        jax.experimental.io_callback(lambda: None, None)
        return jnp.sin(x)

    def telling(x):
        return 2 * once(x)

    message = r"effects not supported in `jax.checkpoint` at .*test_checkpoint.py:\d+.*: IOEffect;"
    with pytest.raises(NotImplementedError, match=message):
        blockjac.grad(telling)(1.0)
    with pytest.raises(NotImplementedError, match=r"Effects not supported .*IOEffect"):
        jax.grad(telling)(1.0)


def test_structure_goes_through():
    block = blockjac.block_jacobian(jax.checkpoint(lambda x: jnp.sin(x) * x), order="reverse")(V)
    assert block.stored == 3
