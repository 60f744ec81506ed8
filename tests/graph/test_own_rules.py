"""Functions with a rule of their own, as a graph for second derivatives notes them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.laplacian_programs import two_results, unlike_its_rule

import blockjac
from blockjac.graph.trace import trace

X = jnp.array([0.5, 1.5])


def graph_of(function, second=True):
    return trace(lambda x: jax.tree.leaves(function(x)), [X], [0], second=second)


KEPT = {
    "relu": (jax.nn.relu, True),
    "softplus": (jax.nn.softplus, True),
    "two results": (two_results, True),
    "under jit": (jax.jit(jax.nn.relu), True),
    "slogdet": (lambda x: jnp.linalg.slogdet(jnp.diag(x) + 1), True),
    "larger slogdet": (lambda x: jnp.linalg.slogdet(jnp.eye(3) + jnp.sum(x))[1], True),
    "a rule with a value of its own": (lambda x: unlike_its_rule(x, x), False),
}


@pytest.mark.parametrize("name", KEPT)
def test_rules_are_noted_once(name):
    function, is_kept = KEPT[name]
    (own,) = graph_of(function).own_rules
    assert own.is_kept == is_kept
    assert any(operand.vertex is not None for operand in own.operands if hasattr(operand, "vertex"))
    assert graph_of(function, second=False).own_rules == ()


def test_results_have_vertices_of_their_own():
    graph = graph_of(two_results)
    (own,) = graph.own_rules
    vertices = [result.vertex for result in own.results]
    assert len(set(vertices)) == 2
    inner = {value for equation in own.equations for value in equation.results}
    assert not inner & set(vertices)


def test_checkpoints_are_inlined():
    names = {equation.primitive.name for equation in graph_of(jax.checkpoint(jnp.sin)).equations}
    assert names == {"sin"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", [float, complex])
def test_second_derivatives_of_slogdet(kind):
    matrix = jnp.asarray(np.random.default_rng(0).normal(size=(4, 4)) + 2 * np.eye(4), kind)
    if kind is complex:
        matrix = matrix + 1j * jnp.cos(matrix)
    fun = lambda x: jnp.linalg.slogdet(matrix * x[0] + x[1] ** 2)[1]  # noqa: E731
    np.testing.assert_allclose(blockjac.hessian(fun)(X), jax.hessian(fun)(X), rtol=1e-9)


def test_derivatives_of_slogdet_factorize_once():
    """The inverse is differentiated by products: no solve for each of its entries."""
    matrix = jnp.eye(4) + 0.1
    laplacian = jax.jit(blockjac.laplacian(lambda a: jnp.linalg.slogdet(a)[1]))
    text = laplacian.lower(matrix).compile().as_text()
    assert text.count("lapack_dgetrf_ffi") <= 3
    inverse = jnp.linalg.inv(matrix)  # d2 log|det A| / d a[i, j]2 is -(A^-1[j, i])^2
    np.testing.assert_allclose(laplacian(matrix), -jnp.sum(inverse**2), rtol=1e-10)
