"""Which elemental Jacobians vary, and how."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from blockjac.elimination.active_graph import ActiveGraph
from blockjac.elimination.linearize import linearize_to_results
from blockjac.graph.trace import trace
from blockjac.second_order.curvature import Curving
from blockjac.second_order.directions import Swept
from blockjac.second_order.varying import varying_equations

X, S = jnp.array([1.0, 2.0, 3.0]), jnp.eye(3) * 2

STRAIGHT = {
    "sum": jnp.sum,
    "product with a constant": lambda x: jnp.ones((2, 3)) @ x,
    "difference": lambda x: x[1:] - x[:-1],
    "maximum": jnp.max,
    "absolute value": jnp.abs,
    "relu": jax.nn.relu,
    "sorted": jnp.sort,
    "clipped": lambda x: jnp.clip(x, 0.0, 1.0),
    "linear loop": lambda x: lax.fori_loop(0, 3, lambda _, c: c + 2 * x, x),
    "linear solve": lambda x: jnp.linalg.solve(S, x),
    "fourier": lambda x: jnp.real(jnp.fft.fft(x)),
}

CURVED = {
    "sine": (jnp.sin, Curving),
    "square": (jnp.square, Curving),
    "product with itself": (lambda x: x * x, Curving),
    "dot product": (lambda x: x @ x, Curving),
    "softplus": (jax.nn.softplus, Curving),
    "product of entries": (jnp.prod, Curving),
    "loop": (lambda x: lax.fori_loop(0, 3, lambda _, c: jnp.sin(c), x), Swept),
    "cholesky": (lambda x: jnp.linalg.cholesky(jnp.diag(x)), Swept),
}


def varying(function, x=X):
    graph = trace(lambda x: [function(x)], [x], [0], second=True)
    linear = linearize_to_results(ActiveGraph.of(graph, graph.outputs), [x], graph.captured)
    return varying_equations(linear)


@pytest.mark.parametrize("name", STRAIGHT)
def test_linear_and_piecewise_linear_equations_add_nothing(name):
    assert varying(STRAIGHT[name]) == []


@pytest.mark.parametrize("name", CURVED)
def test_other_equations_vary(name):
    function, kind = CURVED[name]
    assert kind in map(type, varying(function))


def test_a_function_with_a_rule_is_one_equation():
    (only,) = varying(jax.nn.softplus)
    assert not only.coefficients.is_symmetric
    assert len(only.tails) == 2
    assert sum(tail is not None for tail in only.tails) == 1


def test_coefficients_of_a_product_are_its_operands():
    (product,) = varying(lambda x: jnp.sin(x) * x)[1:]
    coefficients = product.coefficients
    arrays = [product.operands[number] for number in coefficients.taken[:2]]
    for column in (0, 1):
        block = coefficients.block(0, column, [arrays[1], arrays[0]])
        np.testing.assert_allclose(block.diagonal(), arrays[1 - column])
        assert len(coefficients.varying(0, column)) == 1


def test_equal_equations_share_their_coefficients():
    first, second = varying(lambda x: jnp.sin(jnp.sin(x)))
    assert first.coefficients is second.coefficients
