"""Calls and derivative rules inlined into a graph."""

import jax
import jax.numpy as jnp
import numpy as np

from blockjac.elimination.evaluate import evaluate
from blockjac.graph.trace import trace

V = jnp.arange(4.0) + 0.5


def primitives(graph):
    return [equation.primitive.name for equation in graph.equations]


def test_calls_are_inlined():
    inner = jax.jit(lambda x: jnp.sin(x) * 2)
    graph = trace(lambda x: [jax.jit(jax.jit(inner))(x) + jax.jit(inner)(x)], [V], [0])
    assert sorted(primitives(graph)) == ["add", "mul", "mul", "sin", "sin"]


def test_constants_of_inlined_calls_are_captured_once_each():
    table = jnp.arange(4.0)
    graph = trace(lambda x: [jax.jit(lambda y: y * table)(x)], [V], [0])
    assert len(graph.captured) == len(graph.constants) == 1
    np.testing.assert_array_equal(evaluate(graph, [V], graph.captured).values[-1], V * table)


def test_a_custom_jvp_is_replaced_by_its_rule():
    graph = trace(lambda x: [jax.nn.relu(x)], [V], [0])
    calls = [one for one in graph.equations if one.primitive.name == "custom_jvp_call"]
    assert [operand.vertex for call in calls for operand in call.operands] == [None]
    beside = trace(lambda x, y: [x * jax.nn.relu(y)], [V, V], [0])
    assert "select_n" not in primitives(beside)  # not differentiated: its values alone
