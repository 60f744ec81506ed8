"""The public derivatives by coordinates: trees, aux, points of a batch, gradients, misuse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import blockjac
from blockjac.errors import (
    ArgumentError,
    BlockShapeError,
    DifferentiationTypeError,
    ExamplesMeetError,
)

RNG = np.random.default_rng(3)


def array(*shape):
    return jnp.asarray(RNG.normal(size=shape))


PARAMS = [(array(3, 8), array(8)), (array(8, 8) / 3, array(8)), (array(8, 2), array(2))]
X, Y, T = array(6), array(6), array(6)
POINTS = jnp.stack([X, Y, T], axis=-1)


def network(params, points):
    for W, b in params[:-1]:
        points = jnp.tanh(points @ W + b)
    W, b = params[-1]
    return points @ W + b


def fields(params, x, y, t):
    """Two fields of three coordinates, at one point or many."""
    u = network(params, jnp.stack([x, y, t], axis=-1))
    return {"u": u[..., 0], "pair": (u[..., 1] ** 2, jnp.sin(x)[..., None] * u)}


def of_rows(params, points):
    return fields(params, points[..., 0], points[..., 1], points[..., 2])


def by_jax(fun, name, names="pxyt"):
    for coordinate in name:
        fun = jax.jacfwd(fun, names.index(coordinate))
    return fun


def at_points(name):
    return jax.vmap(by_jax(fields, name), (None, 0, 0, 0))(PARAMS, X, Y, T)


def same(found, wanted, rtol=1e-10):
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    for own, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        assert (own.shape, own.dtype) == (other.shape, other.dtype)
        np.testing.assert_allclose(own, other, rtol=rtol, atol=1e-12)


ASKED = {"value": "", "first": ["t", "x"], "second": {"u_xx": "xx", "u_xt": ("x", "t")}}
WANTED = {
    "value": at_points(""),
    "first": [at_points("t"), at_points("x")],
    "second": {"u_xx": at_points("xx"), "u_xt": at_points("xt")},
}
NAMED = {"x": (1, 0), "y": ("points", 1), "t": (1, -1)}


def test_many_points_in_arguments():
    same(blockjac.partial_derivatives(fields, ASKED)(PARAMS, X, Y, T), WANTED)
    same(jax.jit(blockjac.partial_derivatives(fields, ASKED))(PARAMS, X, Y, T), WANTED)


def test_many_points_in_rows():
    same(blockjac.partial_derivatives(of_rows, ASKED, coordinates=NAMED)(PARAMS, POINTS), WANTED)


def test_points_in_a_grid():
    grid = POINTS.reshape(2, 3, 3)
    wanted = jax.tree.map(lambda leaf: leaf.reshape(2, 3, *leaf.shape[1:]), WANTED)
    same(blockjac.partial_derivatives(of_rows, ASKED, coordinates=NAMED)(PARAMS, grid), wanted)
    found = blockjac.partial_derivatives(fields, ASKED)(PARAMS, *jnp.moveaxis(grid, -1, 0))
    same(found, wanted)


@pytest.mark.slow
def test_one_point_and_vmap():
    derivatives = blockjac.partial_derivatives(fields, ASKED)
    same(derivatives(PARAMS, X[0], Y[0], T[0]), jax.tree.map(lambda leaf: leaf[0], WANTED))
    same(jax.vmap(derivatives, (None, 0, 0, 0))(PARAMS, X, Y, T), WANTED)
    rows = blockjac.partial_derivatives(of_rows, ASKED, coordinates=NAMED)
    same(jax.vmap(rows, (None, 0))(PARAMS, POINTS), WANTED)


def test_a_coordinate_that_all_points_share():
    def fun(params, x, t):
        return fields(params, x, Y, jnp.broadcast_to(t, x.shape))["u"] * t

    found = blockjac.partial_derivatives(fun, ["xt", "tt", "xx"])(PARAMS, X, 0.5)
    for name, own in zip(["xt", "tt", "xx"], found, strict=True):
        one = lambda p, x, y, t: fields(p, x, y, t)["u"] * t  # noqa: E731
        wanted = jax.vmap(by_jax(one, name), (None, 0, 0, None))(PARAMS, X, Y, 0.5)
        np.testing.assert_allclose(own, wanted, rtol=1e-10)


@pytest.mark.parametrize("name", ["xxx", "xyt", "xxyy", "tttt", "xytt"])
def test_higher_orders(name):
    found = blockjac.partial_derivatives(fields, name)(PARAMS, X, Y, T)
    same(found, at_points(name), 1e-9)


def residual(derivatives):
    return derivatives["t"]["u"] + derivatives["u"]["u"] * derivatives["x"]["u"]


def burgers(params, points):
    asked = {"u": "", "t": "t", "x": "x", "xx": "xx"}
    own = blockjac.partial_derivatives(of_rows, asked, coordinates=NAMED)(params, points)
    return jnp.mean((residual(own) - own["xx"]["u"]) ** 2)


def burgers_by_jax(params, points):
    x, y, t = jnp.moveaxis(points, -1, 0)
    own = {
        name: jax.vmap(by_jax(fields, name), (None, 0, 0, 0))(params, x, y, t)
        for name in ("t", "x", "xx")
    }
    own["u"] = fields(params, x, y, t)
    return jnp.mean((residual(own) - own["xx"]["u"]) ** 2)


@pytest.mark.slow
@pytest.mark.parametrize("grad", [jax.grad, blockjac.grad])
def test_losses_are_differentiated_by_parameters(grad):
    same(jax.jit(grad(burgers))(PARAMS, POINTS), jax.grad(burgers_by_jax)(PARAMS, POINTS), 1e-9)


def test_derivatives_of_derivatives():
    inner = blockjac.partial_derivatives(fields, "x")
    same(blockjac.partial_derivatives(inner, "xt")(PARAMS, X, Y, T), at_points("xxt"), 1e-9)


def test_aux():
    def fun(x, t):
        return x**3 * t, {"x": x, "name": "cubic"}

    found, aux = blockjac.partial_derivatives(fun, {"xx": "xx"}, has_aux=True)(X, T)
    same(found, {"xx": 6 * X * T})
    assert aux["name"] == "cubic"
    np.testing.assert_array_equal(aux["x"], X)


def test_dtypes_are_those_of_the_function():
    x = X.astype(jnp.float32)
    fun = lambda x: (x**3, x.astype(jnp.float64) ** 2, jnp.exp(1j * x))  # noqa: E731
    third = blockjac.partial_derivatives(fun, "xx")(x)
    assert [leaf.dtype for leaf in third] == [jnp.float32, jnp.float64, jnp.complex64]
    np.testing.assert_allclose(third[1], 2 * np.ones(6), rtol=1e-6)
    np.testing.assert_allclose(third[2], -jnp.exp(1j * x), rtol=1e-5)


def test_static_arguments_and_keywords():
    def fun(x, power, *, scale=1.0):
        return scale * x**power

    found = blockjac.partial_derivatives(fun, "xx")(X, 3, scale=2.0)
    np.testing.assert_allclose(found, 12 * X, rtol=1e-12)


def test_a_jitted_function_is_traced_once():
    runs = []

    @jax.jit
    def fun(x, t):
        runs.append(x)
        return jnp.sin(x * t)

    blockjac.partial_derivatives(fun, {"xt": "xt"})(X, T)
    count = len(runs)
    for scale in (2.0, 3.0):
        found = blockjac.partial_derivatives(fun, {"xt": "xt"})(scale * X, T)
        x = scale * X
        np.testing.assert_allclose(found["xt"], jnp.cos(x * T) - x * T * jnp.sin(x * T), rtol=1e-10)
    assert len(runs) == count


def test_results_that_do_not_depend():
    fun = lambda x, t: {"a": jnp.sin(x), "b": jnp.ones((2, 2)), "c": 3.0 * t}  # noqa: E731
    found = blockjac.partial_derivatives(fun, "xt")(X, T)
    same(found, {"a": 0 * X, "b": jnp.zeros((2, 2)), "c": 0 * T})


@pytest.mark.parametrize("place", [7, -9, 1])
def test_places_off_the_array_have_the_tangents_of_jax(place):
    def fun(x, place):
        return jnp.sum(jnp.stack([x, x**3 * place])[place + jnp.arange(2)]) * x

    found = blockjac.partial_derivatives(fun, ["x", "xx"])(0.7, jnp.asarray(place))
    for name, own in zip(["x", "xx"], found, strict=True):
        wanted = by_jax(fun, name, "x")(0.7, jnp.asarray(place))
        np.testing.assert_allclose(own, wanted, rtol=1e-12)


# Points that meet


@pytest.mark.parametrize(
    ("fun", "where"),
    [
        (lambda x: x - jnp.mean(x), "'reduce_sum'"),
        (lambda x: jnp.sum(x**2), "'reduce_sum'"),
        (lambda x: {"fine": x**2, "not": jnp.cumsum(x)}, "'cumsum'"),
        (lambda x: x[::-1] ** 2, "'rev'"),
        (lambda x: jnp.outer(x, jnp.sin(x)), "'mul'"),
        (lambda x: (x[:, None] * jnp.ones(6)).T, "'a reordering'"),
    ],
)
def test_points_that_meet(fun, where):
    with pytest.raises(ExamplesMeetError, match=rf"coordinates of shape \(6,\) .*{where}"):
        blockjac.partial_derivatives(fun, "x")(X)
    with pytest.raises(ExamplesMeetError, match=r"name them by coordinates=\{'x': "):
        blockjac.partial_derivatives(fun, "x")(X)


# Misuse


def test_misuse():
    make = blockjac.partial_derivatives
    fun = lambda x, t: x * t  # noqa: E731
    with pytest.raises(BlockShapeError, match=r"points in one shape, but found .*\(6,\).*\(3,\)"):
        make(lambda x, t: x[0] * t, "xt")(X, T[:3])
    with pytest.raises(ArgumentError, match=r"asks for no derivative: name at least one"):
        make(fun, {"u": ""})
    with pytest.raises(ArgumentError, match=r"in which 3 is neither a string of coordinates"):
        make(fun, ["x", 3])
    with pytest.raises(ArgumentError, match=r"'a' is none of 'x', 't'"):
        make(fun, "xa")
    with pytest.raises(ArgumentError, match=r"'p' is entry 3 on the last axis of argument 1,"):
        make(of_rows, "p", coordinates={"p": (1, 3)})(PARAMS, POINTS)
    with pytest.raises(ArgumentError, match=r"'p' is entry 0 .* which has shape \(\)"):
        make(fun, "p", coordinates={"p": (0, 0)})(1.0, 2.0)
    with pytest.raises(ArgumentError, match=r"the coordinate 'params' .* argument 0 is a tree"):
        make(of_rows, ("params",))(PARAMS, POINTS)
    with pytest.raises(DifferentiationTypeError, match="requires real- or complex-valued inputs"):
        make(fun, "x")(3, 1.0)
    with pytest.raises(DifferentiationTypeError, match="requires real-valued inputs"):
        make(fun, "x")(1j, 1.0)
    with pytest.raises(DifferentiationTypeError, match="requires real-valued outputs"):
        make(lambda x: x > 0, "x")(1.0)
    with pytest.raises(DifferentiationTypeError, match=r"Expected a callable .*partial_"):
        make(3, "x")
    with pytest.raises(ArgumentError, match="requires at least 2 positional arguments"):
        make(fun, "t")(1.0, t=2.0)
