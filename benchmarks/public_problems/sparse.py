"""Sparse problems of the literature, from their formulas: bands, chains, control, and CUTEst's.

Each is written in the part of NumPy's interface that `jax.numpy` and CasADi share: `xp` has `sum`,
`exp`, `sqrt`, `sin`, `cos`, `tan` and `concatenate`. Vectors are sliced, and numbers are `x[0]`.
"""

from types import SimpleNamespace
from typing import Any

import jax.numpy as jnp


def casadis() -> Any:
    """The same functions for expressions of CasADi."""
    import casadi

    names = {name: getattr(casadi, name) for name in ("exp", "sqrt", "sin", "cos", "tan")}
    return SimpleNamespace(
        sum=casadi.sum1, concatenate=lambda parts: casadi.vertcat(*parts), **names
    )


def broyden_tridiagonal(x: Any, xp: Any = jnp) -> Any:
    """Broyden's equations: `(3 - 2 x_i) x_i - x_{i-1} - 2 x_{i+1} + 1`."""
    zero = 0 * x[:1]
    before, after = xp.concatenate([zero, x[:-1]]), xp.concatenate([x[1:], zero])
    return (3 - 2 * x) * x - before - 2 * after + 1


def chained_rosenbrock(x: Any, xp: Any = jnp) -> Any:
    """`sum 100 (x_{i+1} - x_i^2)^2 + (1 - x_i)^2`."""
    return xp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def brusselator(y: Any, xp: Any = jnp) -> Any:
    """A reaction and diffusion of two substances along a line, one after the other in y."""
    half = y.shape[0] // 2
    u, v = y[:half], y[half:]

    def diffusion(w: Any, edge: float) -> Any:
        sides = xp.concatenate([0 * w[:1] + edge, w, 0 * w[:1] + edge])
        return 50 * (sides[2:] - 2 * w + sides[:-2])

    return xp.concatenate(
        [1 + u**2 * v - 4 * u + diffusion(u, 1.0), 3 * u - u**2 * v + diffusion(v, 3.0)]
    )


LENGTH = 4.0


def chain_energy(x: Any, xp: Any = jnp) -> Any:
    """Of a hanging chain: heights and their slopes, one after the other in x; trapezoidal rule."""
    half = x.shape[0] // 2
    height, slope = x[:half], x[half:]
    weighted = height * xp.sqrt(1 + slope**2)
    return xp.sum(weighted[1:] + weighted[:-1]) / (2 * (half - 1))


def chain_constraints(x: Any, xp: Any = jnp) -> Any:
    """Slopes are those of the heights, and the length is given: one row that is dense."""
    half = x.shape[0] // 2
    height, slope = x[:half], x[half:]
    step = 1 / (half - 1)
    arc = xp.sqrt(1 + slope**2)
    defects = height[1:] - height[:-1] - step / 2 * (slope[1:] + slope[:-1])
    return xp.concatenate([defects, step / 2 * xp.sum(arc[1:] + arc[:-1]) - LENGTH + 0 * x[:1]])


STATES = 4
"""Of a cart with a pole: place, angle, and how fast they change."""


def shooting_defects(x: Any, xp: Any = jnp, substeps: int = 4) -> Any:
    """Multiple shooting for a cart with a pole: where each interval ends, minus the next start.

    Args:
        x: the states of all nodes, component after component, and then the force in each interval:
            `5 nodes - 1` numbers.
        xp: `jax.numpy` or one of its like.
        substeps: steps of Runge and Kutta's method in an interval.
    """
    nodes = (x.shape[0] + 1) // (STATES + 1)
    states = [x[k * nodes : (k + 1) * nodes] for k in range(STATES)]
    force = x[STATES * nodes :]
    step = 2 / (nodes - 1) / substeps

    def rate(s: Any) -> list[Any]:
        _, angle, speed, turning = s
        sine, cosine = xp.sin(angle), xp.cos(angle)
        moved = force + 0.3 * sine * (0.5 * turning**2 + 9.81 * cosine)
        mass = 1 + 0.3 * sine**2
        turned = -force * cosine - 0.15 * turning**2 * cosine * sine - 1.3 * 9.81 * sine
        return [speed, turning, moved / mass, turned / (0.5 * mass)]

    def moved(s: Any, rates: Any, width: float) -> list[Any]:
        return [value + width * change for value, change in zip(s, rates, strict=True)]

    s = [state[:-1] for state in states]
    for _ in range(substeps):
        first = rate(s)
        second = rate(moved(s, first, step / 2))
        third = rate(moved(s, second, step / 2))
        fourth = rate(moved(s, third, step))
        total = [
            a + 2 * b + 2 * c + d for a, b, c, d in zip(first, second, third, fourth, strict=True)
        ]
        s = moved(s, total, step / 6)
    return xp.concatenate([end - state[1:] for end, state in zip(s, states, strict=True)])


# CUTEst, at 10,000 variables


def arwhead(x: Any, xp: Any = jnp) -> Any:
    """`sum (x_i^2 + x_n^2)^2 - 4 x_i + 3`: an arrow."""
    return xp.sum((x[:-1] ** 2 + x[-1] ** 2) ** 2 - 4 * x[:-1] + 3)


def bdqrtic(x: Any, xp: Any = jnp) -> Any:
    """A band of four with the last variable in each term."""
    quartic = (
        x[:-4] ** 2
        + 2 * x[1:-3] ** 2
        + 3 * x[2:-2] ** 2
        + 4 * x[3:-1] ** 2
        + 5 * x[x.shape[0] - 1] ** 2
    )
    return xp.sum((3 - 4 * x[:-4]) ** 2 + quartic**2)


def cragglvy(x: Any, xp: Any = jnp) -> Any:
    """Cragg and Levy's function, by groups of four that share two."""
    a, b, c, d = x[:-2:2], x[1:-2:2], x[2::2], x[3::2]
    groups = (xp.exp(a) - b) ** 4 + 100 * (b - c) ** 6 + xp.tan(c - d) ** 4
    return xp.sum(groups + a**8 + (d - 1) ** 2)


def engval1(x: Any, xp: Any = jnp) -> Any:
    """`sum (x_i^2 + x_{i+1}^2)^2 - 4 x_i + 3`."""
    return xp.sum((x[:-1] ** 2 + x[1:] ** 2) ** 2 - 4 * x[:-1] + 3)


def liarwhd(x: Any, xp: Any = jnp) -> Any:
    """`sum 4 (x_i^2 - x_1)^2 + (x_i - 1)^2`: an arrow that points up."""
    return xp.sum(4 * (x**2 - x[0]) ** 2 + (x - 1) ** 2)


def nondquar(x: Any, xp: Any = jnp) -> Any:
    """`(x_1 - x_2)^2 + (x_{n-1} + x_n)^2 + sum (x_i + x_{i+1} + x_n)^4`."""
    last = x.shape[0] - 1
    ends = (x[0] - x[1]) ** 2 + (x[last - 1] + x[last]) ** 2
    return ends + xp.sum((x[:-2] + x[1:-1] + x[last]) ** 4)


def dixmaana(x: Any, xp: Any = jnp) -> Any:
    """Dixon and Maany's first: thirds of the variables meet at a distance."""
    third = x.shape[0] // 3
    first, second = x[: 2 * third], x[third:]
    far = 0.125 * xp.sum(x[:third] * x[2 * third :])
    return 1 + xp.sum(x**2) + 0.125 * xp.sum(first**2 * second**4) + far


CUTEST = {
    function.__name__: function
    for function in (arwhead, bdqrtic, cragglvy, dixmaana, engval1, liarwhd, nondquar)
}
"""Objectives of CUTEst by their names."""
