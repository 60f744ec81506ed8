"""Bands, chains and control: sparse Jacobians and Hessians of 5,000 to 10,000 variables.

`interop.structure` finds the places once; what is timed is the call that a solver makes at each
point, for the values in a fixed order. Peers: asdex, which colours places that it finds, sparsejac,
which is given them, CasADi's expressions of single numbers, and pounce's front end for JAX.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import blockjac
import harness
import peers
from blockjac import interop
from public_problems import sparse

Function = Callable[..., Any]


def casadi_values(function: Function, size: int, derivative: str) -> harness.Peer:
    """The derivative in CasADi's own sparse matrix, from expressions of single numbers."""

    def make() -> Function:
        import casadi

        x = casadi.SX.sym("x", size)
        y = function(x, sparse.casadis())
        expression = casadi.jacobian(y, x) if derivative == "jacobian" else casadi.hessian(y, x)[0]
        return casadi.Function("derivative", [x], [expression])

    return harness.Peer(make, compiled=False, alike=False)


def pounce_values(function: Function, x: np.ndarray, derivative: str) -> harness.Peer:
    """The derivative by the front end of pounce, as its solver calls it."""

    def make() -> Function:
        from pounce.jax import from_jax

        if derivative == "jacobian":
            outputs = int(np.prod(jax.eval_shape(function, x).shape))
            zeros = np.zeros(outputs)
            sizes = {"n": len(x), "m": outputs, "cl": zeros, "cu": zeros}
            return from_jax(jnp.sum, function, sparse=True, **sizes).problem_obj.jacobian
        problem = from_jax(function, n=len(x), sparse=True).problem_obj
        return lambda x: problem.hessian(x, np.zeros(0), 1.0)

    return harness.Peer(make, compiled=False, alike=False)


def task(
    title: str,
    function: Function,
    x: np.ndarray,
    derivative: str,
    *,
    note: str = "",
    with_dense: bool = False,
    too_slow: Sequence[str] = (),
) -> harness.Task:
    """Values of a sparse derivative at a point, for a solver.

    Args:
        title: of the problem.
        function: of a vector, with `xp`.
        x: where.
        derivative: "jacobian" or "hessian".
        note: a sentence for the page.
        with_dense: whether to measure JAX's dense way too.
        too_slow: peers that are not run, since the first call did not end in 100 s.
    """
    is_jacobian = derivative == "jacobian"
    places = interop.structure(
        function, derivative=derivative, triangle=None if is_jacobian else "lower"
    )(x)
    dense = {"jacfwd": jax.jacfwd} if is_jacobian else {"jax.hessian": jax.hessian}
    ways = {name: way(function) for name, way in dense.items()} if with_dense else {}
    others: dict[str, harness.Peer] = {
        "asdex": (peers.asdex_jacobian if is_jacobian else peers.asdex_hessian)(
            function, (jnp.asarray(x),), values=True
        ),
        "CasADi": casadi_values(function, len(x), derivative),
        "pounce": pounce_values(function, x, derivative),
    }
    if is_jacobian:
        pairs = np.stack([places.rows, places.columns], axis=1)
        others["sparsejac"] = peers.sparsejac_values(function, pairs, x.shape, "jacfwd")
    others |= dict.fromkeys(too_slow, harness.Peer(not_in_time))
    require_values(places, function, x, derivative)
    whole = blockjac.sparse_jacobian if is_jacobian else blockjac.sparse_hessian
    size = f"{places.shape[0]:,} x {places.shape[1]:,}"
    return harness.Task(
        title=f"{title}: {derivative.capitalize()}, {size}, {places.nnz:,} places",
        arguments=(x,),
        contenders={"the function": function, "blockjac, in jit": places.values, **ways},
        uncompiled={
            harness.OURS: places.values,
            "blockjac, CSR array": whole(jax.jit(function)),
        },
        others=others,
        claims=(harness.Claim(1.0, tuple(others)),),
        note=("" if is_jacobian else "The lower triangle, but for the CSR array and asdex. ")
        + note,
    )


def require_values(places: Any, function: Function, x: np.ndarray, derivative: str) -> None:
    """Refuse to time values that are not the derivative, as a product along a tangent tells."""
    gradient = function if derivative == "jacobian" else jax.grad(function)
    tangent = np.random.default_rng(0).normal(size=x.shape)
    _, expected = jax.jvp(gradient, (jnp.asarray(x),), (jnp.asarray(tangent),))
    product = np.zeros(places.shape[0])
    values = places.values(x)
    np.add.at(product, places.rows, values * tangent[places.columns])
    if derivative == "hessian":
        off = places.rows != places.columns
        mirrored = values[off] * tangent[places.rows[off]]
        np.add.at(product, places.columns[off], mirrored)
    size = np.max(np.abs(expected))
    harness.require_alike({"jax.jvp": np.asarray(expected) / size, "blockjac": product / size})


def not_in_time() -> Function:
    """In the place of a peer that is not run."""
    raise TimeoutError("its first call did not end in 100 s")


def near_one(size: int) -> np.ndarray:
    """A point at which nothing is special."""
    return np.random.default_rng(0).uniform(0.5, 1.5, size=size)


def lagrangian(size: int) -> Function:
    """Of the hanging chain, at multipliers that are fixed."""
    multipliers = np.random.default_rng(1).normal(size=size // 2)

    def value(x: Any, xp: Any = jnp) -> Any:
        constraints = sparse.chain_constraints(x, xp)
        return sparse.chain_energy(x, xp) + xp.sum(constraints * multipliers)

    return value


def banded(derivative: str) -> harness.Task:
    """The tridiagonal problems of pounce's own benchmark."""
    goals = {
        "jacobian": "The goal is 60 us; pounce says 190 us of its own, on another machine.",
        "hessian": "The goal is 140 us; pounce says 430 us of its own, on another machine.",
    }
    function = {
        "jacobian": sparse.broyden_tridiagonal,
        "hessian": sparse.chained_rosenbrock,
    }[derivative]
    return task(
        "Banded", function, near_one(5_000), derivative, note=goals[derivative], with_dense=True
    )


def cutest(name: str) -> harness.Task:
    """A Hessian of CUTEst's at 10,000 variables."""
    function = sparse.CUTEST[name]
    size = 9_999 if name == "dixmaana" else 10_000
    too_slow = ("pounce",) if name in COUPLED else ()
    return task(name.upper(), function, near_one(size), "hessian", too_slow=too_slow)


NODES = 2_000

COUPLED = ("arwhead", "bdqrtic", "liarwhd", "nondquar")
"""Problems in which one variable meets all others."""

TASKS = {
    "banded-jacobian": partial(banded, "jacobian"),
    "banded-hessian": partial(banded, "hessian"),
    "brusselator": lambda: task(
        "Brusselator on a line", sparse.brusselator, near_one(10_000), "jacobian"
    ),
    "chain-jacobian": lambda: task(
        "Hanging chain, constraints", sparse.chain_constraints, near_one(10_000), "jacobian"
    ),
    "chain-hessian": lambda: task(
        "Hanging chain, Lagrangian", lagrangian(10_000), near_one(10_000), "hessian"
    ),
    "shooting-jacobian": lambda: task(
        "Cart and pole, multiple shooting",
        sparse.shooting_defects,
        near_one(5 * NODES - 1),
        "jacobian",
        too_slow=("asdex",),
    ),
    "shooting-hessian": lambda: task(
        "Cart and pole, sum of squared defects",
        lambda x, xp=jnp: xp.sum(sparse.shooting_defects(x, xp, substeps=1) ** 2),
        near_one(5 * NODES - 1),
        "hessian",
    ),
    **{name: partial(cutest, name) for name in sparse.CUTEST},
}

if __name__ == "__main__":
    harness.main("Bands, chains and control: values of sparse derivatives for solvers", TASKS)
