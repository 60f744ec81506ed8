"""Stiff equations solved by other people's integrators, with our linear solver and with their own.

A contender is a whole solve by the client's public API; what differs is one argument. By hand means
a linear solver written for just this equation, by someone who knows its structure: what it takes
is what the integrator itself takes, and little else.
"""

import warnings
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import blockjac
import harness
from blockjac import interop

OWN, SCIPY, SCIPYS_OWN = "diffrax's default", "scipy's BDF, our Jacobian", "scipy's BDF, its own"
BY_HAND = "diffrax, 3 x 3 systems by hand"
CVODE_OURS = "CVODE of scikit-sundae, our sparse Jacobian"
Rate = Callable[[Any, Any, Any], jax.Array]


def integrated(rate: Rate, end: float, tolerance: float, solver: Any = None) -> Callable[..., Any]:
    """The end of a solve by Kvaerno's method of order 5."""
    import diffrax

    options = {} if solver is None else {"linear_solver": solver}
    finder = diffrax.VeryChord(rtol=tolerance, atol=tolerance, **options)

    def solve(start: jax.Array) -> jax.Array:
        return diffrax.diffeqsolve(
            diffrax.ODETerm(rate),
            diffrax.Kvaerno5(root_finder=finder),
            0.0,
            end,
            1e-4,
            start,
            stepsize_controller=diffrax.PIDController(rtol=tolerance, atol=tolerance),
        ).ys[-1]

    return solve


def by_scipy(rate: Rate, end: float, tolerance: float, start: Any, ours: bool) -> Any:
    """The end of a solve by SciPy's BDF of a state that is one vector."""
    from scipy.integrate import solve_ivp

    compiled = jax.jit(lambda t, y: rate(t, y, None))
    options = {}
    if ours:
        options["jac"] = blockjac.sparse_jacobian(compiled, argnums=1, format="csc")

    def solve(start: Any) -> Any:
        start = np.ravel(start)
        return solve_ivp(
            compiled, (0, end), start, method="BDF", rtol=tolerance, atol=tolerance, **options
        ).y[:, -1]

    return solve


def by_cvode(rate: Rate, end: float, tolerance: float, start: Any) -> Callable[..., Any]:
    """The end of a solve by CVODE, which gets the sparse values of our Jacobian."""
    from scipy.sparse import csc_matrix
    from sksundae.cvode import CVODE

    compiled = jax.jit(lambda t, y: rate(t, y, None))
    places = interop.structure(compiled, argnums=1)(0.0, jnp.asarray(start))
    indices, starts = places.indices("csc")
    pattern = csc_matrix((np.ones(places.nnz), indices, starts), places.shape)

    def right_side(t: float, y: np.ndarray, out: np.ndarray) -> None:
        out[:] = compiled(t, y)

    def fill(t: float, y: np.ndarray, _: Any, values: np.ndarray) -> None:
        values[:] = places.values(t, np.asarray(y), format="csc")

    def solve(start: Any) -> Any:
        with warnings.catch_warnings():  # it says that it will use what it was given
            warnings.simplefilter("ignore")
            solver = CVODE(
                right_side,
                linsolver="sparse",
                sparsity=pattern,
                jacfn=fill,
                rtol=tolerance,
                atol=1e-4 * tolerance,
            )
        return solver.solve([0.0, end], np.asarray(start)).y[-1]

    return solve


def task(
    title: str,
    rate: Rate,
    start: Any,
    end: float,
    tolerance: float,
    *,
    claim: float,
    has_default: bool = True,
    note: str = "",
    more: dict[str, harness.Peer] | None = None,
) -> harness.Task:
    """Whole solves of an equation."""

    def by_diffrax(solver: Any) -> harness.Peer:
        return harness.Peer(lambda: integrated(rate, end, tolerance, solver()))

    others = {harness.OURS: by_diffrax(interop.StructuredSolver), **(more or {})}
    if has_default:
        others[OWN] = by_diffrax(lambda: None)
    if jnp.ndim(start) == 1:
        for name, ours in ((SCIPY, True), (SCIPYS_OWN, False)):
            if ours or has_default:
                make = partial(by_scipy, rate, end, tolerance, start, ours)
                others[name] = harness.Peer(make, compiled=False, alike=False)
    peer = OWN if has_default else next(iter(more or {}))
    return harness.Task(
        title=title,
        arguments=(jnp.asarray(start),),
        contenders={},
        others=others,
        claims=(harness.Claim(claim, (peer,)),),
        note=note,
    )


def robertson(t: Any, y: jax.Array, args: Any) -> jax.Array:
    """Robertson's reactions in cells that do not meet, all first species first."""
    a, b, c = jnp.reshape(y, (3, -1))
    slow, fast, back = 0.04 * a, 3e7 * b**2, 1e4 * b * c
    return jnp.concatenate([back - slow, slow - back - fast, fast])


def three_by_three() -> Any:
    """A solver of lineax for operators that are a 3 x 3 matrix of diagonals."""
    import lineax

    class ThreeByThree(lineax.AbstractLinearSolver):
        """Cramer's rule."""

        def init(self, operator: Any, options: Any) -> Any:
            units = jnp.repeat(jnp.eye(3), operator.in_size() // 3, axis=1)
            (a, d, g), (b, e, h), (c, f, i) = (operator.mv(u).reshape(3, -1) for u in units)
            x, y, z = e * i - f * h, f * g - d * i, d * h - e * g
            rows = [
                [x, c * h - b * i, b * f - c * e],
                [y, a * i - c * g, c * d - a * f],
                [z, b * g - a * h, a * e - b * d],
            ]
            return jnp.stack([jnp.stack(row) for row in rows]) / (a * x + b * y + c * z)

        def compute(self, state: Any, vector: Any, options: Any) -> Any:
            right = jnp.reshape(vector, (3, -1))
            solution = [sum(state[i, j] * right[j] for j in range(3)) for i in range(3)]
            return jnp.concatenate(solution), lineax.RESULTS.successful, {}

        def transpose(self, state: Any, options: Any) -> Any:
            return jnp.swapaxes(state, 0, 1), options

        def conj(self, state: Any, options: Any) -> Any:
            return state, options

        def assume_full_rank(self) -> bool:
            return True

    return ThreeByThree()


def cells(count: int) -> harness.Task:
    """Robertson's reactions until they are over, as in the benchmark of diffsol."""
    start = jnp.concatenate([jnp.ones(count), jnp.zeros(2 * count)])
    by_hand = harness.Peer(lambda: integrated(robertson, 1e10, 1e-4, three_by_three()))
    cvode = harness.Peer(
        lambda: by_cvode(robertson, 1e10, 1e-4, start), compiled=False, alike=False
    )
    return task(
        f"Robertson's reactions in {count:,} cells until t = 1e10, tolerance 1e-4",
        robertson,
        start,
        1e10,
        1e-4,
        claim=0.1 if count <= 100 else 1.5,
        has_default=count <= 100,
        more={BY_HAND: by_hand, CVODE_OURS: cvode},
        note="By hand is the floor: what is left is the integrator's own work, which grows with "
        "the cells. The default writes out a dense matrix, and is run for 100 cells alone. CVODE "
        "gets a ten thousandth of the tolerance for absolute errors.",
    )


def ahead(unknowns: int) -> float:
    """What is claimed beside a dense default: with few unknowns, no more than it takes."""
    return 1.05 if unknowns < 300 else 0.5


def brusselator(t: Any, y: jax.Array, args: Any) -> jax.Array:
    """Two species that react and diffuse along a line."""
    u, v = jnp.reshape(y, (2, -1))
    rate = (u.size + 1) ** 2 / 50.0

    def spread(w: jax.Array, side: float) -> jax.Array:
        sides = jnp.pad(w, 1, constant_values=side)
        return rate * (sides[2:] - 2 * w + sides[:-2])

    return jnp.concatenate(
        [1 + u**2 * v - 4 * u + spread(u, 1.0), 3 * u - u**2 * v + spread(v, 3.0)]
    )


def line(size: int) -> harness.Task:
    """The Brusselator on a line."""
    x = jnp.arange(1, size + 1) / (size + 1)
    start = jnp.concatenate([1 + jnp.sin(2 * jnp.pi * x), jnp.full(size, 3.0)])
    title = f"The Brusselator on a line of {size} points until t = 10"
    return task(title, brusselator, start, 10.0, 1e-5, claim=ahead(2 * size))


def heat(t: Any, u: jax.Array, args: Any) -> jax.Array:
    """Diffusion in a square with cold sides."""
    sides = jnp.pad(u, 1)
    around = sides[2:, 1:-1] + sides[:-2, 1:-1] + sides[1:-1, 2:] + sides[1:-1, :-2]
    return 0.1 * (u.shape[0] + 1) ** 2 * (around - 4 * u)


def plane(side: int) -> harness.Task:
    """The heat equation in a plane."""
    title = f"The heat equation in a plane of {side} x {side} until t = 1"
    return task(title, heat, jnp.ones((side, side)), 1.0, 1e-5, claim=ahead(side**2))


def reaction(t: Any, y: jax.Array, args: Any) -> jax.Array:
    """The Brusselator in a periodic plane."""
    u, v = y

    def spread(w: jax.Array) -> jax.Array:
        around = sum(jnp.roll(w, shift, axis) for shift in (-1, 1) for axis in (0, 1))
        return 2e-3 * w.shape[0] ** 2 * (around - 4 * w)

    return jnp.stack([1 + u**2 * v - 4.4 * u + spread(u), 3.4 * u - u**2 * v + spread(v)])


def reaction_plane(side: int) -> harness.Task:
    """Reaction and diffusion in a plane."""
    random = np.random.default_rng(0)
    start = np.array([3.0, 1.0])[:, None, None] + 0.1 * random.normal(size=(2, side, side))
    title = f"The Brusselator in a periodic plane of {side} x {side} until t = 2"
    return task(title, reaction, start, 2.0, 1e-5, claim=ahead(2 * side**2))


def growth(measured: Mapping[str, harness.Measured]) -> str:
    """How the time grows with the cells."""
    few, many = (measured.get(name, {}).get(harness.OURS) for name in ("cells-1000", "cells-10000"))
    if not isinstance(few, harness.Measurement) or not isinstance(many, harness.Measurement):
        return "## Growth\n\nNot measured.\n"
    ratio = np.nanmedian(many.rounds) / np.nanmedian(few.rounds)
    return f"## Growth\n\n10,000 cells take {ratio:.1f} times as long as 1,000.\n"


TASKS = {
    "cells-100": partial(cells, 100),
    "cells-1000": partial(cells, 1_000),
    "cells-10000": partial(cells, 10_000),
    "brusselator-60": partial(line, 60),
    "brusselator-300": partial(line, 300),
    "heat-16": partial(plane, 16),
    "heat-32": partial(plane, 32),
    "reaction-diffusion-8": partial(reaction_plane, 8),
    "reaction-diffusion-16": partial(reaction_plane, 16),
}


if __name__ == "__main__":
    harness.main(
        "Stiff equations: other people's integrators with a structured linear solver",
        TASKS,
        growth,
    )
