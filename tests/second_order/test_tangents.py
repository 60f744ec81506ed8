"""Jacobians of intermediate values, forwards in their structure."""

import jax
import jax.numpy as jnp
import numpy as np

from blockjac.blocks import Block
from blockjac.elimination.active_graph import ActiveGraph
from blockjac.elimination.linearize import linearize_to_results
from blockjac.graph.trace import trace
from blockjac.second_order.tangents import tangents_of

X = jnp.arange(6.0).reshape(2, 3)
W = jnp.cos(jnp.arange(12.0)).reshape(3, 4)


def linear_at(function, x):
    graph = trace(lambda x: [function(x)], [x], [0])
    return linearize_to_results(ActiveGraph.of(graph, graph.outputs), [x], graph.captured)


def test_each_vertex_has_its_jacobian():
    def hidden(x):
        return jnp.sin(x) @ W

    linear = linear_at(lambda x: jnp.tanh(hidden(x)) * 2, X)
    (leaf,) = linear.graph.independents
    names = {equation.primitive.name: equation for equation in linear.active.equations}
    seeds = {"by x": {leaf: Block.identity(X.shape, X.dtype)}}
    wanted = [names["dot_general"].results[0], leaf]
    found = tangents_of(linear, seeds, wanted)
    assert set(found) == set(wanted)
    block = found[wanted[0]]["by x"]
    np.testing.assert_allclose(block.dense(), jax.jacfwd(hidden)(X), rtol=1e-12)
    assert block.stored <= X.size + W.size  # each row by itself, slopes and weights apart
    assert found[leaf]["by x"].stored == 0


def test_directions_from_two_sources_keep_apart():
    linear = linear_at(lambda x: jnp.sin(x[0]) * x[1], X)
    (leaf,) = linear.graph.independents
    along = Block.from_dense(jnp.ones((*X.shape, 1)), 2)
    seeds = {"one": {leaf: along}, "all": {leaf: Block.identity(X.shape, X.dtype)}}
    product = linear.active.equations[-1].results[0]
    found = tangents_of(linear, seeds, [product])[product]
    jacobian = jax.jacfwd(lambda x: jnp.sin(x[0]) * x[1])(X)
    np.testing.assert_allclose(found["all"].dense(), jacobian, rtol=1e-12)
    np.testing.assert_allclose(found["one"].dense()[:, 0], jnp.sum(jacobian, (1, 2)), rtol=1e-12)


def test_the_graph_stays():
    linear = linear_at(lambda x: jnp.sin(x) @ W, X)
    edges = {tail: set(heads) for tail, heads in linear.edges.leaving.items()}
    (leaf,) = linear.graph.independents
    last = linear.active.forward_order[-1]
    tangents_of(linear, {"x": {leaf: Block.identity(X.shape, X.dtype)}}, [last])
    assert edges == {tail: set(heads) for tail, heads in linear.edges.leaving.items()}
