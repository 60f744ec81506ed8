"""Chosen derivatives of fields, as the residuals of partial differential equations take them.

A field is a network of coordinates at 1,024 points, in float64. By hand a derivative of order k is
`jax.jvp` of `jax.jvp`, k times; by `jax.experimental.jet` it is the last Taylor coefficient along a
direction, and a mixed one a combination of such (polarisation). Both are written for one point,
under `jax.vmap`, and for all points at once, where each point has a tangent of its own.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.jet import jet

import blockjac
import harness
from laplacians import dense_layers

Function = Callable[..., Any]

POINTS = 1024
EACH = "vmap of one"
NAMES = "xyt"

Combination = Sequence[tuple[float, tuple[int, ...]]]
"""Directions of which the derivatives along them, each times its factor, add up to a mixed one."""

POLARISED: Mapping[str, Combination] = {
    "t": [(1, (0, 0, 1))],
    "x": [(1, (1, 0, 0))],
    "xx": [(1, (1, 0, 0))],
    "yy": [(1, (0, 1, 0))],
    "xxx": [(1, (1, 0, 0))],
    "xxy": [(1 / 6, (1, 1, 0)), (-1 / 6, (1, -1, 0)), (-1 / 3, (0, 1, 0))],
    "xxxx": [(1, (1, 0, 0))],
    "yyyy": [(1, (0, 1, 0))],
    "xxyy": [
        (1 / 12, (1, 1, 0)),
        (1 / 12, (1, -1, 0)),
        (-1 / 6, (1, 0, 0)),
        (-1 / 6, (0, 1, 0)),
    ],
}


def field(params: Any, x: jax.Array, y: jax.Array, t: jax.Array) -> jax.Array:
    """A network of tanh, at one point or many."""
    h = jnp.stack([x, y, t], axis=-1)
    for W, b in params[:-1]:
        h = jnp.tanh(h @ W + b)
    W, b = params[-1]
    return (h @ W + b)[..., 0]


def ours(asked: Sequence[str], params: Any, *point: jax.Array) -> jax.Array:
    """The sum of some derivatives."""
    found = blockjac.partial_derivatives(field, list(asked))(params, *point)
    return sum(found)


def by_jvp(asked: Sequence[str], params: Any, *point: jax.Array) -> jax.Array:
    """The same by nested `jax.jvp`."""

    def along(function: Function, number: int) -> Function:
        def rate(*point: jax.Array) -> jax.Array:
            tangents = [jnp.full_like(part, place == number) for place, part in enumerate(point)]
            return jax.jvp(function, point, tuple(tangents))[1]

        return rate

    total: Any = 0
    for written in asked:
        function: Function = partial(field, params)
        for coordinate in written:
            function = along(function, NAMES.index(coordinate))
        total = total + function(*point)
    return total


def by_jet(asked: Sequence[str], params: Any, *point: jax.Array) -> jax.Array:
    """The same by Taylor coefficients along directions, each direction once."""
    total: Any = 0
    orders: dict[tuple[int, ...], dict[int, float]] = {}
    for written in asked:
        for factor, direction in POLARISED[written]:
            factors = orders.setdefault(direction, {})
            factors[len(written)] = factors.get(len(written), 0) + factor
    for direction, factors in orders.items():
        zeros = [jnp.zeros_like(point[0])] * (max(factors) - 1)
        series = tuple(
            [jnp.full_like(part, step), *zeros] for part, step in zip(point, direction, strict=True)
        )
        coefficients = jet(partial(field, params), point, series)[1]
        for order, factor in factors.items():
            total = total + factor * coefficients[order - 1]
    return total


def by_hessian(params: Any, *point: jax.Array) -> jax.Array:
    """`u_xx + u_yy + u_t` from the whole Hessian and gradient of each point."""

    def of_one(point: jax.Array) -> jax.Array:
        function = lambda point: field(params, *point)  # noqa: E731
        hessian = jax.hessian(function)(point)
        return hessian[0, 0] + hessian[1, 1] + jax.grad(function)(point)[2]

    return jax.vmap(of_one)(jnp.stack(point, axis=-1))


def by_point(function: Function) -> Function:
    """A function of one point, at each of many."""
    return lambda params, *points: jax.vmap(partial(function, params))(*points)


def training(function: Function) -> Function:
    """The gradient of the mean square by the parameters."""
    return jax.grad(lambda params, *points: jnp.mean(function(params, *points) ** 2))


def task(
    title: str, asked: Sequence[str], *, trained: bool = False, dense: bool = False
) -> harness.Task:
    """The sum of some derivatives, by all contenders.

    Args:
        title: of the task.
        asked: the derivatives.
        trained: whether the gradient of its mean square is asked for.
        dense: whether the whole Hessian is a contender.
    """
    generator = np.random.default_rng(1)
    points = [jnp.asarray(generator.uniform(size=POINTS)) for _ in NAMES]
    peers: dict[str, Function] = {}
    for name, function in {"jax.jvp": by_jvp, "jet": by_jet}.items():
        own = partial(function, asked)
        peers |= {name: own, f"{name}, {EACH}": by_point(own)}
    if dense:
        peers["jax.hessian"] = by_hessian
    mine = partial(ours, asked)
    contenders = {**peers, harness.OURS: mine, f"{harness.OURS}, {EACH}": by_point(mine)}
    if trained:
        contenders = {name: training(function) for name, function in contenders.items()}
    names = tuple(peers)
    return harness.Task(
        title=title,
        arguments=(dense_layers((3, 64, 64, 64, 64, 1)), *points),
        contenders=contenders,
        alike=tuple(contenders),
        claims=(
            harness.Claim(1.0, names),
            harness.Claim(1.0, names, f"{harness.OURS}, {EACH}"),
        ),
    )


SECOND = ("xx", "yy", "t")

TASKS: Mapping[str, Callable[[], harness.Task]] = {
    "second": lambda: task(
        "u_xx + u_yy + u_t of a network 3-64-64-64-64-1 of tanh, 1,024 points", SECOND, dense=True
    ),
    "training": lambda: task(
        "The gradient of the mean of (u_xx + u_yy + u_t)² by all parameters, same network",
        SECOND,
        trained=True,
    ),
    "third": lambda: task("u_xxx + u_xxy + u_t + u_x, same network", ("xxx", "xxy", "t", "x")),
    "fourth": lambda: task(
        "u_xxxx + u_xxyy + u_yyyy, same network",
        ("xxxx", "xxyy", "yyyy"),
    ),
}

if __name__ == "__main__":
    harness.main("Chosen derivatives of fields", TASKS)
