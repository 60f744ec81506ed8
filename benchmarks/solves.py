"""Linear systems with Jacobians and Hessians: a solve costs what the structure makes of it.

Each task contains the derivative as well as the solve, as one step of a Newton method or of an
implicit integrator does. By hand means that the user knows the structure and writes it out.
"""

import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import blockjac
import harness
from public_problems.cameras import project

Function = Callable[..., Any]


def quartic(x: jax.Array) -> jax.Array:
    """A separable objective, whose Hessian is diagonal."""
    return jnp.sum(x**4 / 12 + x**2)


def diagonal_newton(size: int) -> harness.Task:
    """A Newton step of a separable objective."""

    def ours(x: jax.Array) -> jax.Array:
        return blockjac.solve(blockjac.block_hessian(quartic)(x), blockjac.grad(quartic)(x))

    def by_hand(x: jax.Array) -> jax.Array:
        return jax.grad(quartic)(x) / (x**2 + 2)

    def dense(x: jax.Array) -> jax.Array:
        return jnp.linalg.solve(jax.hessian(quartic)(x), jax.grad(quartic)(x))

    return harness.Task(
        title=f"Newton step of a separable objective, {size:,} variables",
        arguments=(jnp.asarray(np.random.default_rng(0).normal(size=size)),),
        contenders={harness.OURS: ours, "by hand": by_hand, "jax.hessian, dense": dense},
        alike=(harness.OURS, "by hand"),
        claims=(harness.Claim(1.2, ("by hand",)),),
    )


SAMPLES, FEATURES, NEURONS = 2_000, 20, 100


def population_loss(W: jax.Array, X: jax.Array, Y: jax.Array) -> jax.Array:
    """The negative log-likelihood of Poisson counts of many neurons with the same features."""
    rates = X @ W
    return jnp.sum(jnp.exp(rates) - Y * rates)


def population() -> harness.Task:
    """A Newton step of independent regressions, which nobody told that they are independent."""
    generator = np.random.default_rng(0)
    X = jnp.asarray(generator.normal(size=(SAMPLES, FEATURES)) / FEATURES)
    W = jnp.asarray(generator.normal(size=(FEATURES, NEURONS)))
    Y = jnp.asarray(generator.poisson(np.exp(X @ W)).astype(float))

    def ours(W: jax.Array, X: jax.Array, Y: jax.Array) -> jax.Array:
        hessian = blockjac.block_hessian(population_loss)(W, X, Y)
        return blockjac.solve(hessian, blockjac.grad(population_loss)(W, X, Y), assume="pos")

    def neuron_by_neuron(W: jax.Array, X: jax.Array, Y: jax.Array) -> jax.Array:
        def step(w: jax.Array, y: jax.Array) -> jax.Array:
            def loss(w: jax.Array) -> jax.Array:
                rates = X @ w
                return jnp.sum(jnp.exp(rates) - y * rates)

            factors = jax.scipy.linalg.cho_factor(jax.hessian(loss)(w))
            return jax.scipy.linalg.cho_solve(factors, jax.grad(loss)(w))

        return jax.vmap(step, in_axes=1, out_axes=1)(W, Y)

    def dense(W: jax.Array, X: jax.Array, Y: jax.Array) -> jax.Array:
        hessian = jax.hessian(population_loss)(W, X, Y).reshape(W.size, W.size)
        gradient = jax.grad(population_loss)(W, X, Y)
        return jnp.linalg.solve(hessian, gradient.ravel()).reshape(W.shape)

    return harness.Task(
        title=f"Newton step of {NEURONS} Poisson regressions, {SAMPLES:,} x {FEATURES} each",
        arguments=(W, X, Y),
        contenders={
            harness.OURS: ours,
            "neuron by neuron": neuron_by_neuron,
            "jax.hessian, dense": dense,
        },
        alike=(harness.OURS, "neuron by neuron"),
        claims=(harness.Claim(1.1, ("neuron by neuron",)),),
    )


def robertson(y: jax.Array) -> jax.Array:
    """Robertson's three reactions in each cell, the cells one after another in one long vector."""
    a, b, c = jnp.reshape(y, (-1, 3)).T
    slow, fast, back = 0.04 * a, 3e7 * b**2, 1e4 * b * c
    return jnp.stack([back - slow, slow - back - fast, fast], axis=1).ravel()


STEP = 1e-3


def cells(count: int) -> harness.Task:
    """The linear system of an implicit Euler step of cells that do not know each other."""
    generator = np.random.default_rng(0)
    y = jnp.asarray((generator.uniform(0.1, 1, (count, 3)) * [1, 1e-5, 1]).ravel())

    def residual(y: jax.Array) -> jax.Array:
        return y - STEP * robertson(y)

    def ours(y: jax.Array) -> jax.Array:
        return blockjac.solve(blockjac.block_jacobian(residual)(y), y)

    def cell_by_cell(y: jax.Array) -> jax.Array:
        def step(cell: jax.Array) -> jax.Array:
            return jnp.linalg.solve(jax.jacfwd(residual)(cell), cell)

        return jax.vmap(step)(jnp.reshape(y, (-1, 3))).ravel()

    def dense(y: jax.Array) -> jax.Array:
        return jnp.linalg.solve(jax.jacfwd(residual)(y), y)

    return harness.Task(
        title=f"An implicit step of Robertson's reactions in {count:,} cells, one long vector",
        arguments=(y,),
        contenders={harness.OURS: ours, "cell by cell": cell_by_cell, "jacfwd, dense": dense},
        alike=(harness.OURS, "cell by cell"),
        claims=(harness.Claim(1.2, ("cell by cell",)),),
        note="Cell by cell one must know the cells: the function gets one of them.",
    )


def heat(u: jax.Array) -> jax.Array:
    """An implicit step of the heat equation with a coefficient that depends on the state."""
    sides = jnp.pad(u, 1)
    flow = (1 + sides[1:] ** 2 / 2 + sides[:-1] ** 2 / 2) * (sides[1:] - sides[:-1])
    return u - 10.0 * (flow[1:] - flow[:-1])


def heat_bands(u: jax.Array) -> jax.Array:
    """Its Jacobian by hand, as `scipy.linalg.solve_banded` wants it: above, diagonal, below."""
    sides = jnp.pad(u, 1)
    step = sides[1:] - sides[:-1]
    conductivity = 1 + sides[1:] ** 2 / 2 + sides[:-1] ** 2 / 2
    by_right = conductivity + sides[1:] * step  # d flow[k] / d sides[k + 1]
    by_left = -conductivity + sides[:-1] * step
    diagonal = 1 - 10.0 * (by_left[1:] - by_right[:-1])
    above = -10.0 * by_right[1:-1]
    below = 10.0 * by_left[1:-1]
    return jnp.stack([jnp.pad(above, (1, 0)), diagonal, jnp.pad(below, (0, 1))])


def heat_step(size: int) -> harness.Task:
    """The linear system of that step."""
    u = jnp.sin(jnp.linspace(0.0, np.pi, size))

    def ours(u: jax.Array) -> jax.Array:
        return blockjac.solve(blockjac.block_jacobian(heat)(u), u)

    def by_hand(u: jax.Array) -> jax.Array:
        above, diagonal, below = heat_bands(u)
        lower, upper = jnp.pad(below[:-1], (1, 0)), jnp.pad(above[1:], (0, 1))
        return jax.lax.linalg.tridiagonal_solve(lower, diagonal, upper, u[:, None])[:, 0]

    def scipys() -> Function:
        from scipy.linalg import solve_banded

        bands = jax.jit(heat_bands)

        def solve(u: jax.Array) -> Any:
            return solve_banded((1, 1), np.asarray(bands(u)), np.asarray(u), check_finite=False)

        return solve

    return harness.Task(
        title=f"An implicit step of a nonlinear heat equation, {size:,} points",
        arguments=(u,),
        contenders={harness.OURS: ours, "tridiagonal_solve by hand": by_hand},
        others={"scipy.linalg.solve_banded": harness.Peer(scipys, compiled=False)},
        alike=(harness.OURS, "tridiagonal_solve by hand"),
        claims=(
            harness.Claim(1.2, ("tridiagonal_solve by hand",)),
            harness.Claim(1.5, ("scipy.linalg.solve_banded",)),
        ),
    )


def heat_in_a_plane(u: jax.Array) -> jax.Array:
    """A nonlinear implicit step of a plane, as one long vector."""
    side = round(u.size**0.5)
    plane = jnp.pad(jnp.reshape(u, (side, side)), 1)
    around = plane[2:, 1:-1] + plane[:-2, 1:-1] + plane[1:-1, 2:] + plane[1:-1, :-2]
    inner = plane[1:-1, 1:-1]
    return (inner + inner**3 - 0.5 * (around - 4 * inner)).ravel()


def plane_step(side: int) -> harness.Task:
    """The linear system of that step, sparse."""
    u = jnp.asarray(np.random.default_rng(0).normal(size=side * side))

    @jax.jit
    def step(u: jax.Array, scale: float) -> jax.Array:
        return blockjac.solve(blockjac.block_jacobian(heat_in_a_plane)(scale * u), u)

    scales = itertools.cycle(1 + 1e-9 * np.arange(1000))

    def ours(u: jax.Array) -> jax.Array:
        return step(u, next(scales))

    def dense(u: jax.Array) -> jax.Array:
        return jnp.linalg.solve(jax.jacfwd(heat_in_a_plane)(u), u)

    def scipys() -> Function:
        from scipy.sparse.linalg import splu

        jacobian = blockjac.sparse_jacobian(jax.jit(heat_in_a_plane), format="csc")

        def solve(u: jax.Array) -> Any:
            return splu(jacobian(u)).solve(np.asarray(u))

        return solve

    return harness.Task(
        title=f"An implicit step of a nonlinear equation in a plane of {side} x {side}",
        arguments=(u,),
        contenders={"jacfwd, dense": dense},
        uncompiled={harness.OURS: ours},
        others={"our sparse_jacobian, scipy's splu": harness.Peer(scipys, compiled=False)},
        claims=(harness.Claim(1.2, ("our sparse_jacobian, scipy's splu",)),),
        note="A program calls SuperLU on the host, and keeps the factors of the last matrices: "
        "blockjac's matrix changes by a billionth from call to call, so that none is met again.",
    )


def diffusion_of_matrices() -> harness.Task:
    """A linear system with a Kronecker product: both sides of a matrix are multiplied."""
    generator = np.random.default_rng(0)
    A, B = (jnp.asarray(generator.normal(size=(n, n)) + n * np.eye(n)) for n in (60, 40))
    R = jnp.asarray(generator.normal(size=(60, 40)))

    def product(V: jax.Array, A: jax.Array, B: jax.Array) -> jax.Array:
        return A @ V @ B

    def ours(V: jax.Array, A: jax.Array, B: jax.Array) -> jax.Array:
        return blockjac.solve(blockjac.block_jacobian(product)(V, A, B), V)

    def by_hand(V: jax.Array, A: jax.Array, B: jax.Array) -> jax.Array:
        return jnp.linalg.solve(B.T, jnp.linalg.solve(A, V).T).T

    def dense(V: jax.Array, A: jax.Array, B: jax.Array) -> jax.Array:
        matrix = jax.jacfwd(product)(V, A, B).reshape(V.size, V.size)
        return jnp.linalg.solve(matrix, V.ravel()).reshape(V.shape)

    return harness.Task(
        title="A system with A V B = R, 60 x 40",
        arguments=(R, A, B),
        contenders={harness.OURS: ours, "by hand": by_hand, "jacfwd, dense": dense},
        alike=(harness.OURS, "by hand"),
        claims=(harness.Claim(1.2, ("by hand",)),),
    )


def projected(cameras: jax.Array, points: jax.Array, seen_by: Any, seen: Any) -> jax.Array:
    """Where cameras of nine parameters (turn, place, focal length, two distortions) see points."""
    return project(cameras[seen_by], points[seen])


def bundle(cameras: int, points: int, views: int) -> harness.Task:
    """A step of Levenberg and Marquardt in bundle adjustment, each point in some views."""
    generator = np.random.default_rng(0)
    seen_by = np.concatenate(
        [generator.choice(cameras, views, replace=False) for _ in range(points)]
    )
    seen = np.repeat(np.arange(points), views)
    turns, positions = 0.1 * generator.normal(size=(2, cameras, 3))
    lenses = np.tile([1.0, 0.01, 0.001], (cameras, 1))
    arguments = (
        jnp.asarray(np.concatenate([turns, positions, lenses], axis=1)),
        jnp.asarray(generator.normal(size=(points, 3)) + np.array([0, 0, 10.0])),
        jnp.asarray(generator.normal(size=(points * views, 2))),
    )

    def residual(cameras: jax.Array, points: jax.Array, observed: jax.Array) -> jax.Array:
        return projected(cameras, points, seen_by, seen) - observed

    def ours(cameras: jax.Array, points: jax.Array, observed: jax.Array) -> Any:
        blocks = blockjac.block_jacobian(residual, (0, 1))(cameras, points, observed)
        jacobian = blockjac.BlockMatrix([list(blocks)])
        gradient = jacobian.T.matvec((residual(cameras, points, observed),))
        return blockjac.solve(jacobian.T @ jacobian, gradient, 0.1, assume="pos")

    def scipys() -> Function:
        from scipy.sparse import eye_array
        from scipy.sparse.linalg import splu

        jacobian_of = blockjac.sparse_jacobian(jax.jit(residual), (0, 1), format="csr")

        def step(cameras: jax.Array, points: jax.Array, observed: jax.Array) -> Any:
            jacobian = jacobian_of(cameras, points, observed)
            normal = (jacobian.T @ jacobian + 0.1 * eye_array(jacobian.shape[1])).tocsc()
            right = jacobian.T @ np.ravel(residual(cameras, points, observed))
            return splu(normal).solve(right)

        return step

    return harness.Task(
        title=f"A step of bundle adjustment: {cameras} cameras, {points:,} points, {views} views",
        arguments=arguments,
        contenders={harness.OURS: ours},
        others={
            "our sparse_jacobian, scipy's splu": harness.Peer(scipys, compiled=False, alike=False)
        },
        claims=(harness.Claim(0.1, ("our sparse_jacobian, scipy's splu",)),),
    )


STATES, OBSERVED = 4, 2


def kalman(steps: int, chains: int = 0, with_variances: bool = False) -> harness.Task:
    """Smoothing of a linear state space model: a block tridiagonal system.

    Args:
        steps: the length of a chain.
        chains: how many chains are smoothed at once; 0 for one without an axis for it.
        with_variances: whether to give the variances of all states too.
    """
    generator = np.random.default_rng(0)
    F = 0.99 * jnp.asarray(np.linalg.qr(generator.normal(size=(STATES, STATES)))[0])
    H = jnp.asarray(generator.normal(size=(OBSERVED, STATES)))
    batch = (chains,) if chains else ()
    observations = jnp.asarray(generator.normal(size=(*batch, steps, OBSERVED)))
    moves, errors = 0.1, 0.5

    def energy(x: jax.Array, y: jax.Array) -> jax.Array:
        """The negative log-density of all states, up to a constant."""
        step, error = x[..., 1:, :] - x[..., :-1, :] @ F.T, y - x @ H.T
        first = jnp.sum(x[..., 0, :] ** 2)
        return (first + jnp.sum(step**2) / moves + jnp.sum(error**2) / errors) / 2

    def ours(y: jax.Array) -> Any:
        x = jnp.zeros((*batch, steps, STATES))
        gradient = blockjac.grad(energy)(x, y)
        factors = blockjac.factorize(blockjac.block_hessian(energy)(x, y), assume="pos")
        means = -factors.solve(gradient)
        return (means, factors.inverse_diagonal()) if with_variances else means

    def by_recursion(y: jax.Array) -> Any:
        """Rauch, Tung and Striebel's: a Kalman filter forwards, a smoother backwards."""
        units = jnp.eye(STATES)

        def forwards(predicted: Any, seen: jax.Array) -> Any:
            mean, covariance = predicted
            gain = covariance @ H.T
            system = H @ gain + errors * jnp.eye(OBSERVED)
            gain = jnp.linalg.solve(system, gain.T).T
            mean = mean + gain @ (seen - H @ mean)
            covariance = covariance - gain @ H @ covariance
            following = F @ mean, F @ covariance @ F.T + moves * units
            return following, (mean, covariance, *following)

        def backwards(smoothed: Any, step: Any) -> Any:
            mean, covariance, following, spread = step
            gain = jnp.linalg.solve(spread, F @ covariance).T
            answer = mean + gain @ (smoothed[0] - following)
            if not with_variances:
                return (answer,), (answer,)
            changed = covariance + gain @ (smoothed[1] - spread) @ gain.T
            return (answer, changed), (answer, jnp.diagonal(changed))

        _, stored = jax.lax.scan(forwards, (jnp.zeros(STATES), units), y)
        last = jax.tree.map(lambda array: array[-1], stored)[: 1 + with_variances]
        before = jax.tree.map(lambda array: array[:-1], stored)
        _, smoothed = jax.lax.scan(backwards, last, before, reverse=True)
        ends = last[0], jnp.diagonal(last[-1]) if with_variances else last[0]
        whole = [
            jnp.concatenate([part, end[None]]) for part, end in zip(smoothed, ends, strict=False)
        ]
        return tuple(whole) if with_variances else whole[0]

    several = f"{chains} chains of " if chains else ""
    variances = ", means and variances" if with_variances else ""
    return harness.Task(
        title=f"Kalman smoothing, {several}{steps:,} steps of {STATES} states{variances}",
        arguments=(observations,),
        contenders={
            harness.OURS: ours,
            "by recursion": jax.vmap(by_recursion) if chains else by_recursion,
        },
        alike=(harness.OURS, "by recursion"),
        claims=(harness.Claim(1.2, ("by recursion",)),),
    )


def ring(cells: int) -> harness.Task:
    """An implicit step of two substances that react and diffuse around a ring."""
    generator = np.random.default_rng(0)
    u = jnp.asarray(generator.uniform(0.5, 1.5, size=(cells, 2)))
    spread = jnp.asarray([4.0, 1.0])

    def energy(u: jax.Array) -> jax.Array:
        step = u - jnp.roll(u, 1, axis=0)
        reaction = jnp.sum(jnp.cosh(u[:, 0] * u[:, 1])) + jnp.sum(u**4)
        return jnp.sum(u**2) / 2 + jnp.sum(spread * step**2) + reaction / 10

    def ours(u: jax.Array) -> jax.Array:
        return blockjac.solve(blockjac.block_hessian(energy)(u), u, assume="pos")

    def scipys() -> Function:
        from scipy.sparse.linalg import splu

        jacobian = blockjac.sparse_jacobian(jax.jit(blockjac.grad(energy)), format="csc")

        def solve(u: jax.Array) -> Any:
            return splu(jacobian(u)).solve(np.ravel(np.asarray(u))).reshape(u.shape)

        return solve

    return harness.Task(
        title=f"A Newton step of two substances around a ring of {cells:,} cells",
        arguments=(u,),
        contenders={harness.OURS: ours},
        others={"our sparse_jacobian, scipy's splu": harness.Peer(scipys, compiled=False)},
        claims=(harness.Claim(1.0, ("our sparse_jacobian, scipy's splu",)),),
    )


def last_layer() -> harness.Task:
    """The variances of 3,100 outputs of a last layer with 128 features, for one new example."""
    generator = np.random.default_rng(0)
    features, outputs, rows = 128, 3_100, 500
    X = jnp.asarray(generator.normal(size=(rows, features)), jnp.float32)
    x = jnp.asarray(generator.normal(size=(1, features)), jnp.float32)

    def jacobian(X: jax.Array) -> Any:
        return blockjac.block_jacobian(lambda W: X @ W)(jnp.zeros((features, outputs), X.dtype))

    def ours(X: jax.Array, x: jax.Array) -> jax.Array:
        J = jacobian(X)
        factors = blockjac.factorize(J.T @ J, 1.0, assume="pos")
        return factors.predictive_variance(jacobian(x))

    def by_hand(X: jax.Array, x: jax.Array) -> jax.Array:
        factors = jax.scipy.linalg.cho_factor(X.T @ X + jnp.eye(features, dtype=X.dtype))
        variance = jnp.sum(x * jax.scipy.linalg.cho_solve(factors, x.T).T, axis=1)
        return jnp.broadcast_to(variance[:, None], (1, outputs))

    return harness.Task(
        title="Predictive variance of a last layer, 128 features and 3,100 outputs, float32",
        arguments=(X, x),
        contenders={harness.OURS: ours, "by hand": by_hand},
        alike=(harness.OURS, "by hand"),
        claims=(harness.Claim(1.2, ("by hand",)),),
        note="By hand one must know that all outputs have one matrix; with the fit of 500 rows.",
    )


TASKS = {
    "diagonal-6000": lambda: diagonal_newton(6_000),
    "diagonal-1000000": lambda: diagonal_newton(1_000_000),
    "population": population,
    "cells-100": lambda: cells(100),
    "cells-10000": lambda: cells(10_000),
    "heat-1000": lambda: heat_step(1_000),
    "heat-100000": lambda: heat_step(100_000),
    "plane-24": lambda: plane_step(24),
    "plane-100": lambda: plane_step(100),
    "kronecker": diffusion_of_matrices,
    "kalman-1000": lambda: kalman(1_000),
    "kalman-variances": lambda: kalman(1_000, with_variances=True),
    "kalman-chains": lambda: kalman(100, chains=100),
    "ring-1000": lambda: ring(1_000),
    "last-layer": last_layer,
    "bundle-2000": lambda: bundle(16, 2_000, 4),
    "bundle-22106": lambda: bundle(16, 22_106, 4),
}

if __name__ == "__main__":
    harness.main("Linear systems solved by the structure of their matrix", TASKS)
