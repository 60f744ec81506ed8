"""Hessians: JAX's trees and numbers, mirrored blocks computed once, every option."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import blockjac
from blockjac import Search
from blockjac.errors import DenseTooLargeError, DifferentiationTypeError

RNG = np.random.default_rng(4)


def array(*shape):
    return jnp.asarray(RNG.normal(size=shape))


def loss(params, X, Y):
    Z = jnp.tanh(X @ params["W"] + params["b"])
    return -jnp.mean(jnp.sum(Y * jax.nn.log_softmax(Z @ params["V"]), axis=-1))


PARAMS = {"W": array(4, 3), "b": array(3), "V": array(3, 2)}
X, Y = array(6, 4), jax.nn.softmax(array(6, 2))


def several(x, y):
    return {"a": jnp.sin(x) * y[0], "b": jnp.sum(x**3) * y}


def same(found, wanted):
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        assert (one.shape, one.dtype) == (other.shape, other.dtype)
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-12)


CASES = {
    "network": (loss, 0, (PARAMS, X, Y)),
    "two arguments": (lambda x, y: jnp.sum(jnp.sin(x) * y**2), (0, 1), (array(3), array(3))),
    "their order": (lambda x, y: jnp.sum(jnp.sin(x)) * y, (1, 0), (array(3), 2.0)),
    "several results": (several, (0, 1), (array(3), array(2))),
    "scalar": (lambda x: x**3, 0, (2.0,)),
    "linear": (lambda x: jnp.sum(3 * x), 0, (array(3),)),
    "loop": (
        lambda x: jax.lax.fori_loop(0, 3, lambda _, v: jnp.sin(v) * x, x).sum(),
        0,
        (array(3),),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_hessians(name):
    function, argnums, arguments = CASES[name]
    wanted = jax.hessian(function, argnums)(*arguments)
    same(blockjac.hessian(function, argnums)(*arguments), wanted)
    same(jax.jit(blockjac.hessian(function, argnums))(*arguments), wanted)


@pytest.mark.parametrize("order", ["reverse", "forward", "greedy", Search(steps=50)], ids=str)
def test_any_order(order):
    wanted = jax.hessian(loss)(PARAMS, X, Y)
    same(blockjac.hessian(loss, order=order)(PARAMS, X, Y), wanted)


def test_mirrored_blocks_are_computed_once():
    """Half of the work of a bilinear form in two arguments: one block, and its transpose."""
    A = array(40, 50)

    def form(x, y):
        return jnp.sin(x) @ A @ jnp.sin(y)

    x, y = array(40), array(50)
    found = blockjac.hessian(form, (0, 1))(x, y)
    np.testing.assert_array_equal(found[1][0], found[0][1].T)

    def products(transform):
        return sum(
            equation.primitive.name == "mul" and equation.outvars[0].aval.size == 40 * 50
            for equation in jax.make_jaxpr(transform)(x, y).eqns
        )

    twice = blockjac.jacobian(blockjac.jacobian(form, (0, 1)), (0, 1))
    assert products(blockjac.hessian(form, (0, 1))) < products(twice)


def test_a_quadratic_form_is_not_read():
    """The Hessian of `x' A x` is `A + A'`, whatever x is."""
    A = array(5, 5)
    hessian = blockjac.hessian(lambda x: x @ A @ x)
    np.testing.assert_allclose(hessian(jnp.full(5, jnp.nan)), A + A.T)


def test_aux_and_complex():
    found, aux = blockjac.hessian(lambda x: (jnp.sum(x**3), {"x": x}), has_aux=True)(array(3))
    assert found.shape == (3, 3)
    assert set(aux) == {"x"}
    z = array(3) + 1j * array(3)

    def function(z):
        return jnp.sum(jnp.sin(z) * z)

    found = blockjac.hessian(function, holomorphic=True)(z)
    np.testing.assert_allclose(found, jax.hessian(function, holomorphic=True)(z), rtol=1e-10)


def test_chunks_and_limits():
    wanted = blockjac.hessian(loss)(PARAMS, X, Y)
    same(blockjac.hessian(loss, chunk_size=3)(PARAMS, X, Y), wanted)
    with pytest.raises(DenseTooLargeError, match="over the limit of 50 bytes"):
        blockjac.hessian(loss, max_bytes=50)(PARAMS, X, Y)


def test_mixed_dtypes():
    x, y = jnp.ones(2, jnp.float32), jnp.ones(3, jnp.float64)

    def function(x, y):
        return jnp.sum(x) ** 2 * jnp.sum(y**2)

    found = blockjac.hessian(function, (0, 1))(x, y)
    wanted = jax.jacrev(jax.jacrev(function, (0, 1)), (0, 1))(x, y)
    assert [leaf.dtype for leaf in jax.tree.leaves(found)] == [
        leaf.dtype for leaf in jax.tree.leaves(wanted)
    ]
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_under_vmap():
    xs = array(4, 3)

    def function(x):
        return jnp.sum(jnp.sin(x) * x[0])

    found = jax.vmap(blockjac.hessian(function))(xs)
    np.testing.assert_allclose(found, jax.vmap(jax.hessian(function))(xs), rtol=1e-10)


def test_integers_are_refused():
    with pytest.raises(DifferentiationTypeError, match="hessian requires real- or complex-valued"):
        blockjac.hessian(lambda x: x**2)(3)
    with pytest.raises(DifferentiationTypeError, match=r"Expected a callable value for .*hessian"):
        blockjac.hessian(3)
