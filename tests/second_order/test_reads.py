"""Which functions may read off the array."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from blockjac.elimination.active_graph import ActiveGraph
from blockjac.elimination.linearize import linearize_to_results
from blockjac.engine.run import structured
from blockjac.graph.trace import trace
from blockjac.second_order.reads import may_read_off

X, K = jnp.arange(1.0, 6.0), jnp.asarray(2)


@pytest.mark.parametrize(
    ("fun", "may"),
    [
        (lambda x, k: jnp.sin(x), False),
        (lambda x, k: x[np.array([0, 4, 2])], False),
        (lambda x, k: x[np.array([0, 5, 2])], True),
        (lambda x, k: x[jnp.arange(5)], False),
        (lambda x, k: x[k], False),  # a slice, which is clipped
        (lambda x, k: x[k + jnp.arange(3)], True),
        (lambda x, k: x.at[k + jnp.arange(3)].get(mode="fill"), False),
        (lambda x, k: x.at[k + jnp.arange(3)].get(mode="clip"), False),
        (lambda x, k: lax.dynamic_slice(x, [k], [2]), False),
        (lambda x, k: jnp.arange(9)[k] * x, False),
        (lambda x, k: jnp.zeros(9).at[k + jnp.arange(5)].add(x), False),
        (lambda x, k: lax.fori_loop(0, 3, lambda i, v: 2 * v, x), True),
    ],
)
def test_functions(fun, may):
    def found(x, k):
        graph = structured(trace(lambda x, k: [fun(x, k)], (x, k), (0,), second=True))
        linear = linearize_to_results(ActiveGraph.of(graph, graph.outputs), (x, k), graph.captured)
        answers.append(may_read_off(linear))
        return x

    answers = []
    jax.eval_shape(found, X, K)
    assert answers == [may]
