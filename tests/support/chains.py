"""Chains of layers, and the graph of a function with its edges."""

import itertools

import jax.numpy as jnp
import numpy as np

from blockjac.elimination.active_graph import ActiveGraph
from blockjac.elimination.linearize import linearize_to_results
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
    """A function at a point, its graph linear, with its results as vertices."""
    graph = trace(lambda x: [fun(x)], [x], [0])
    active = ActiveGraph.of(graph, graph.outputs)
    return linearize_to_results(active, [x], graph.captured)
