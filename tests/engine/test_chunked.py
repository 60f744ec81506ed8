"""Chunks: the same Jacobian within the memory that is allowed, or a clear refusal."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import blockjac
from blockjac.errors import ArgumentError, DenseTooLargeError

RNG = np.random.default_rng(2)


def array(*shape):
    return jnp.asarray(RNG.normal(size=shape))


W, V = array(9, 3000) / 9, array(3000, 7) / 3000


def wide(x):
    """Few inputs and results, many values in between."""
    return jnp.tanh(jnp.sin(x @ W) * jnp.cumsum(x @ W) @ V)


def tree(params, x):
    return {"a": jnp.sin(params["M"] @ x), "b": jnp.sum(x) * params["s"]}


def loop(x):
    return jax.lax.while_loop(lambda v: jnp.sum(v) < 50, lambda v: v * 1.5 + 1, x)


@jax.custom_vjp
def backwards_only(x):
    return jnp.sin(x)


backwards_only.defvjp(lambda x: (jnp.sin(x), x), lambda x, q: (q * jnp.cos(x),))

FUNCTIONS = {
    "wide": (wide, (0,), (array(9),)),
    "tree": (tree, (0, 1), ({"M": array(3, 4), "s": 2.0}, array(4))),
    "forwards only": (loop, (0,), (array(4),)),
    "backwards only": (lambda x: backwards_only(x) * x[0], (0,), (array(4),)),
    "scalar": (lambda x: jnp.sum(x**3), (0,), (array(5),)),
    "constant": (lambda x: (jnp.ones(3), x), (0,), (array(2),)),
    "empty": (lambda x: jnp.sin(x), (0,), (jnp.zeros((0, 2)),)),
}


def same(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for found, wanted in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert (found.shape, found.dtype) == (wanted.shape, wanted.dtype)
        np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("size", [1, 2, 5, 100])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_chunks_give_the_same(name, size):
    function, argnums, arguments = FUNCTIONS[name]
    wanted = blockjac.jacobian(function, argnums)(*arguments)
    same(blockjac.jacobian(function, argnums, chunk_size=size)(*arguments), wanted)


@pytest.mark.parametrize("order", ["reverse", "forward"])
def test_rows_and_columns(order):
    found = blockjac.jacobian(wide, order=order, chunk_size=4)(array(9))
    assert found.shape == (7, 9)
    x = array(9)
    same(blockjac.jacobian(wide, order=order, chunk_size=4)(x), blockjac.jacobian(wide)(x))


def test_complex_functions():
    z = array(5) + 1j * array(5)

    def function(z):
        return jnp.sin(z) * z[::-1]

    found = blockjac.jacobian(function, holomorphic=True, chunk_size=3)(z)
    np.testing.assert_allclose(
        found, jax.jit(jax.jacfwd(function, holomorphic=True))(z), rtol=1e-12
    )


@pytest.mark.slow
def test_inside_other_transforms():
    x = array(3, 9)
    rows = jax.vmap(blockjac.jacobian(wide, chunk_size=2))(x)
    np.testing.assert_allclose(rows, jax.vmap(jax.jacrev(wide))(x), rtol=1e-10, atol=1e-12)

    def curved(x):
        return jnp.sin(x) * x[0]

    twice = jax.jacfwd(blockjac.jacobian(curved, chunk_size=2))(x[0, :3])
    np.testing.assert_allclose(twice, jax.jit(jax.jacfwd(jax.jacfwd(curved)))(x[0, :3]), rtol=1e-12)


def measured(jacobian, *arguments):
    report = jax.jit(jacobian).lower(*arguments).compile().memory_analysis()
    return report.argument_size_in_bytes + report.output_size_in_bytes + report.temp_size_in_bytes


@pytest.mark.parametrize("limit", [400_000, 250_000, 180_000])
def test_a_limit_is_kept(limit):
    x = array(9)
    assert measured(blockjac.jacobian(wide), x) > 400_000
    bounded = blockjac.jacobian(wide, max_bytes=limit)
    assert measured(bounded, x) <= limit
    same(bounded(x), blockjac.jacobian(wide)(x))


def test_what_fits_is_not_cut():
    x = array(9)
    whole = jax.make_jaxpr(blockjac.jacobian(wide))(x)
    roomy = jax.make_jaxpr(blockjac.jacobian(wide, max_bytes=10**9))(x)
    assert str(whole) == str(roomy)
    assert "scan" not in str(roomy)
    few = blockjac.jacobian(wide, chunk_size="auto", max_bytes=300_000)
    assert "scan" in str(jax.make_jaxpr(few)(x))


def test_what_cannot_fit_is_refused():
    message = (
        r"of 'wide' needs .* one row or column at a time, over the limit of 19.5 KiB; "
        r"blockjac.block_jacobian"
    )
    with pytest.raises(DenseTooLargeError, match=message):
        blockjac.jacobian(wide, max_bytes=20_000)(array(9))
    with pytest.raises(DenseTooLargeError, match=r"over the limit of 100 bytes"):
        blockjac.jacobian(wide, max_bytes=100)(array(9))


def test_wrong_chunk_sizes_are_refused():
    with pytest.raises(ArgumentError, match=r"chunk_size is 0, but must be at least 1"):
        blockjac.jacobian(wide, chunk_size=0)(array(9))
    with pytest.raises(ArgumentError, match=r"chunk_size is 'small', but must be an int"):
        blockjac.jacobian(wide, chunk_size="small")(array(9))
