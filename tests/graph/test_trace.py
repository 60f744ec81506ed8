"""The graph: names, and what depends on the inputs."""

import functools

import jax
import jax.numpy as jnp
import pytest
from jax import export

import blockjac
from blockjac.elimination.active_graph import ActiveGraph
from blockjac.engine.arguments import traced_call
from blockjac.errors import NoDerivativeError
from blockjac.graph.trace import trace

V = jnp.arange(4.0) + 0.5


def names(fun, *args, argnums=0, **kwargs):
    graph = traced_call("jacobian", fun, argnums, args, kwargs).graph
    return [graph.names[value] for value in graph.inputs]


def test_inputs_are_named_as_in_the_users_function():
    def loss(params, x, *rest, scale=1.0, mode="a", **more):
        return params["W1"] * x + sum(rest) + params["layers"][0][1]

    params = {"W1": V, "layers": [(None, V)]}
    found = names(loss, params, V, V, V, scale=2.0, mode="b", z=V)
    assert found[:5] == ["params['W1']", "params['layers'][0][1]", "x", "rest[0]", "rest[1]"]
    assert set(found[5:]) == {"scale", "more['z']"}


def test_names_go_through_wrappers():
    def fun(a, b):
        return a * b

    assert names(jax.jit(fun), V, V) == ["a", "b"]
    assert names(functools.partial(fun, b=V), V)[0] == "a"
    assert names(lambda q, mode, r: q * r, V, "static", V, argnums=2) == ["q", "r"]


def test_only_what_leads_from_an_input_to_a_result_is_active():
    def fun(x, y):
        unused = jnp.cos(x)
        del unused
        beside = jnp.exp(y)
        return [jnp.sin(x) * beside]

    graph = trace(fun, [V, V], [0])
    active = ActiveGraph.of(graph, graph.outputs).vertices
    made = {value: e.primitive.name for e in graph.equations for value in e.results}
    assert sorted(made[vertex] for vertex in active if vertex in made) == ["mul", "sin"]


def test_integers_have_no_vertices():
    graph = trace(lambda x, n: [x * n], [V, jnp.arange(4)], [0, 1])
    assert graph.independents == graph.inputs[:1]


def test_symbolic_sizes_are_refused():
    shape = export.symbolic_shape("b, 3")
    spec = jax.ShapeDtypeStruct(shape, V.dtype)
    message = r"x has the symbolic shape \(b, 3\), .* export one program for each size"
    with pytest.raises(NoDerivativeError, match=message):
        export.export(jax.jit(blockjac.grad(lambda x: jnp.sum(x**2))))(spec)
