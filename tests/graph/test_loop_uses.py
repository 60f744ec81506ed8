"""Weights of a loop, used outside of it: which are, and that the program computes the same."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from blockjac.elimination.active_graph import ActiveGraph
from blockjac.elimination.evaluate import evaluate, results
from blockjac.graph.loop_uses import with_uses_outside
from blockjac.graph.trace import trace

RNG = np.random.default_rng(0)
N, T, D, H = 3, 4, 5, 6
W, U, B = (jnp.asarray(RNG.normal(size=shape)) for shape in ((D, H), (H, H), (H,)))
X = jnp.asarray(RNG.normal(size=(T, N, D)))


def network(W, U, b, x):
    def cell(h, x):
        h = jnp.tanh(x @ W + h @ jnp.exp(U).T + b)
        return h, jnp.sum(h)

    return [*lax.scan(cell, jnp.zeros((N, H)), x, reverse=True)]


def nested(W, x):
    """The inner loop holds the product: it stays where it is."""

    def outer(h, x):
        return lax.fori_loop(0, 2, lambda i, h: jnp.tanh(x @ W + h), h), None

    return [lax.scan(outer, jnp.zeros((N, H)), x)[0]]


def changed(fun, arguments, differentiated, rows):
    graph = trace(fun, arguments, differentiated)
    active = ActiveGraph.of(graph, graph.outputs)
    return graph, *with_uses_outside(graph, active.vertices, rows)


@pytest.mark.parametrize(("rows", "count"), [(1, 0), (N, 2), (np.inf, 3)])
def test_uses_go_outside_where_that_stores_less(rows, count):
    """Not for the gradient of one number; for each example the weights; at any price biases too."""
    graph, other, uses = changed(network, (W, U, B, X), (0, 1, 2), rows)
    assert len(uses) == count
    assert (other is graph) == (count == 0)


@pytest.mark.parametrize("rows", [N, np.inf])
def test_the_program_computes_the_same(rows):
    arguments = W, U, B, X
    _, graph, _ = changed(network, arguments, (0, 1, 2), rows)
    found = results(graph, evaluate(graph, arguments, graph.captured).values)
    for own, other in zip(found, network(*arguments), strict=True):
        np.testing.assert_allclose(own, other, rtol=1e-13)


def test_a_use_is_what_all_steps_compute():
    arguments = W, U, B, X
    _, graph, uses = changed(network, arguments, (0, 1, 2), N)
    point = evaluate(graph, arguments, graph.captured)
    for use in uses:
        operands = [point.values[atom.value] for atom in use.operands]
        (found,) = jax.core.eval_jaxpr(use.jaxpr.jaxpr, use.jaxpr.consts, *operands)
        assert found.shape == (T, N, H) == graph.avals[use.vertex].shape
        np.testing.assert_array_equal(point.values[use.vertex], 0)
    np.testing.assert_allclose(
        jax.core.eval_jaxpr(
            uses[0].jaxpr.jaxpr,
            uses[0].jaxpr.consts,
            *[point.values[atom.value] for atom in uses[0].operands],
        )[0],
        X @ W,
        rtol=1e-12,
    )


@pytest.mark.parametrize(
    ("fun", "arguments", "differentiated"),
    [
        (nested, (W, X), (0,)),
        (network, (W, U, B, X), (3,)),
        (lambda W, x: [x @ W], (W, X), (0,)),
    ],
    ids=["in an inner loop", "of constants that are not differentiated", "no loop"],
)
def test_what_stays_in_the_loop(fun, arguments, differentiated):
    graph, other, uses = changed(fun, arguments, differentiated, np.inf)
    assert other is graph
    assert not uses
