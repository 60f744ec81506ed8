"""Nonlinear least squares from plain residuals: bundle adjustment, a pose graph, a curve.

A task makes a fixed number of steps, or fits until a tolerance is reached. Peers get the same
residuals; what SciPy is given beside them is our sparse Jacobian, or the pattern of it.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

import blockjac
import harness
from blockjac.optimize import levenberg_marquardt
from public_problems.cameras import project

Function = Callable[..., Any]
STEPS = 10


def reprojection(params: Any, camera: Any, point: Any, seen: jax.Array) -> jax.Array:
    """Where points are seen, less where they were."""
    return project(params["cameras"][camera], params["points"][point]) - seen


def bal(cameras: int, points: int, views: int) -> tuple[Any, np.ndarray, np.ndarray, jax.Array]:
    """A synthetic problem of the shape that those of Bundle Adjustment in the Large have.

    Args:
        cameras: the number of cameras.
        points: the number of points, each of which at least two cameras see.
        views: the number of observations, listed point by point.
    """
    random = np.random.default_rng(0)
    counts = np.full(points, 2)
    while (missing := views - counts.sum()) > 0:
        free = np.flatnonzero(counts < cameras)
        counts[random.choice(free, min(missing, len(free) // 2 + 1), replace=False)] += 1
    point = np.repeat(np.arange(points), counts)
    camera = np.concatenate([random.choice(cameras, count, replace=False) for count in counts])
    truth = {
        "cameras": np.concatenate(
            [
                0.2 * random.normal(size=(cameras, 6)),
                np.tile([500.0, 0.01, 0.001], (cameras, 1)),
            ],
            axis=1,
        ),
        "points": random.normal(size=(points, 3)) - np.array([0, 0, 6.0]),
    }
    seen = project(truth["cameras"][camera], truth["points"][point])
    seen = seen + 0.5 * random.normal(size=seen.shape)
    start = jax.tree.map(
        lambda part: jnp.asarray(part * (1 + 0.01 * random.normal(size=part.shape))), truth
    )
    return start, camera, point, seen


def by_scipy(residuals: Function, start: Any, steps: int, with_ours: bool) -> Function:
    """SciPy's trust region with our sparse Jacobian, or with differences and our pattern."""
    from scipy.optimize import least_squares

    flat, unravel = ravel_pytree(start)
    function = jax.jit(lambda vector: ravel_pytree(residuals(unravel(vector)))[0])
    jacobian = blockjac.sparse_jacobian(function)
    pattern = jacobian(flat) != 0

    def fit(start: Any) -> Any:
        options = {"jac": jacobian} if with_ours else {"jac": "2-point", "jac_sparsity": pattern}
        vector = np.asarray(ravel_pytree(start)[0])
        found = least_squares(function, vector, x_scale="jac", max_nfev=steps + 1, **options)
        return found.cost

    return fit


def by_optimistix(residuals: Function, steps: int) -> Function:
    """The default of optimistix: a dense Jacobian."""
    import optimistix

    solver = optimistix.LevenbergMarquardt(rtol=1e-8, atol=1e-8)

    def fit(start: Any) -> Any:
        found = optimistix.least_squares(
            lambda params, _: residuals(params), solver, start, max_steps=steps, throw=False
        )
        return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(residuals(found.value))) / 2

    return fit


def task(title: str, residuals: Function, start: Any, steps: int, slow: Sequence[str] = ()) -> Any:
    """The task of a fixed number of steps.

    Args:
        title: of the task.
        residuals: of the parameters alone.
        start: the parameters.
        steps: how many to make.
        slow: peers that would take minutes.
    """

    def ours(start: Any) -> Any:
        fit = levenberg_marquardt(residuals, start, max_steps=steps, ftol=0, xtol=0, gtol=0)
        return fit.cost

    with_ours = "scipy's least_squares, our sparse Jacobian"
    by_differences = "scipy's least_squares, differences in our pattern"
    peers = {
        with_ours: harness.Peer(
            partial(by_scipy, residuals, start, steps, True), compiled=False, alike=False
        ),
        by_differences: harness.Peer(
            partial(by_scipy, residuals, start, steps, False), compiled=False, alike=False
        ),
        "optimistix": harness.Peer(partial(by_optimistix, residuals, steps), alike=False),
    }
    return harness.Task(
        title=title,
        arguments=(start,),
        contenders={harness.OURS: ours},
        others={name: peer for name, peer in peers.items() if name not in slow},
        claims=(harness.Claim(0.5, (with_ours,)),),
    )


def bundle(cameras: int, points: int, views: int, slow: Sequence[str] = ()) -> Any:
    """Steps of bundle adjustment."""
    start, camera, point, seen = bal(cameras, points, views)
    title = (
        f"{STEPS} steps of bundle adjustment: {cameras} cameras, {points:,} points, "
        f"{views:,} observations"
    )

    def residuals(params: Any) -> jax.Array:
        return reprojection(params, camera, point, seen)

    return task(title, residuals, start, STEPS, slow)


def pose_graph(count: int) -> Any:
    """Steps of a pose graph in the plane, in which every fifth pose closes a loop."""
    random = np.random.default_rng(0)
    angle = np.linspace(0, 4 * np.pi, count)
    path = np.stack([5 * np.sin(angle), 5 - 5 * np.cos(angle), angle], axis=1)
    again = np.arange(0, count // 2, 5)
    first = np.concatenate([np.arange(count - 1), again])
    second = np.concatenate([np.arange(1, count), again + count // 2])

    def between(a: Any, b: Any) -> jax.Array:
        cos, sin = jnp.cos(a[:, 2]), jnp.sin(a[:, 2])
        x, y, turn = (b - a).T
        return jnp.stack([cos * x + sin * y, cos * y - sin * x, turn], axis=1)

    exact = between(path[first], path[second])
    measured = exact + 0.02 * random.normal(size=exact.shape)

    def mismatch(poses: jax.Array) -> Any:
        return between(poses[first], poses[second]) - measured, 100 * (poses[0] - path[0])

    start = jnp.asarray(path + 0.1 * random.normal(size=path.shape))
    title = f"{STEPS} steps of a pose graph: {count:,} poses, {len(first):,} edges"
    return task(title, mismatch, start, STEPS)


def curve() -> Any:
    """A fit of a peak of four parameters to 200 points until a tolerance is reached."""
    random = np.random.default_rng(0)
    x = np.linspace(0, 10, 200)
    y = 3 * np.exp(-(((x - 4) / 1.5) ** 2)) + 1 + 0.1 * random.normal(size=200)

    def residuals(p: jax.Array, y: Any, xp: Any = jnp) -> Any:
        return p[0] * xp.exp(-(((x - p[1]) / p[2]) ** 2)) + p[3] - y

    def ours(start: jax.Array, y: jax.Array) -> Any:
        return levenberg_marquardt(residuals, start, y).params

    def optimistixs() -> Function:
        import optimistix

        solver = optimistix.LevenbergMarquardt(rtol=1e-8, atol=1e-8)
        return lambda start, y: optimistix.least_squares(residuals, solver, start, args=y).value

    def scipys() -> Function:
        from scipy.optimize import least_squares

        return lambda start, y: (
            least_squares(
                partial(residuals, y=np.asarray(y), xp=np), np.asarray(start), method="lm"
            ).x
        )

    return harness.Task(
        title="A fit of a peak: 4 parameters, 200 points",
        arguments=(jnp.asarray([1.0, 5.0, 1.0, 0.0]), jnp.asarray(y)),
        contenders={harness.OURS: ours},
        others={
            "optimistix": harness.Peer(optimistixs, alike=False),
            "scipy's MINPACK with NumPy": harness.Peer(scipys, compiled=False, alike=False),
        },
        claims=(harness.Claim(1.2, ("optimistix",)),),
        note="SciPy gets the residuals in NumPy, and takes differences.",
    )


TASKS = {
    "curve": curve,
    "pose-graph-1000": lambda: pose_graph(1_000),
    "bundle-500": lambda: bundle(8, 500, 2_000),
    "bundle-22106": lambda: bundle(
        16, 22_106, 83_718, slow=("scipy's least_squares, differences in our pattern",)
    ),
}

if __name__ == "__main__":
    harness.main("Nonlinear least squares from plain residuals", TASKS)
