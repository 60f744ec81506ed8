"""Chains of layers, and the graph of a function with its edges."""

import itertools

import jax.numpy as jnp
import numpy as np

from blockjac.elimination.linearize import elemental, evaluate, identity_edges, useful_vertices
from blockjac.graph.trace import trace

RNG = np.random.default_rng(1)


def chain(*widths, activation=jnp.tanh):
    """A chain of layers of these widths, and its argument."""
    weights = [jnp.asarray(RNG.normal(size=pair)) for pair in itertools.pairwise(widths)]

    def fun(x):
        for weight in weights:
            x = activation(x @ weight)
        return x

    return fun, jnp.asarray(RNG.normal(size=widths[0]))


def planned(fun, x):
    """The graph of a function, its edges, and the vertices on the way."""
    graph = trace(lambda x: [fun(x)], [x], [0])
    useful = useful_vertices(graph, graph.outputs)
    edges = elemental(graph, evaluate(graph, [x], graph.captured), useful)
    identity_edges(graph, edges, graph.outputs, useful)
    return graph, edges, useful
