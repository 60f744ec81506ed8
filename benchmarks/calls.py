"""What a call from Python costs over the compiled program, as a solver of scipy pays it each step.

Functions are jitted, as for any solver: an un-jitted one is traced at every call, so that closures
are always fresh.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import blockjac
import harness
from harness import Measured, Measurement

UNKNOWNS = 200
LIMIT = 50e-6
"""Seconds a call over the compiled program."""
PROGRAM = "compiled program"


@jax.jit
def residuals(x: jax.Array) -> jax.Array:
    """Of Rosenbrock's function."""
    return 10 * (x[1:] - x[:-1] ** 2)


@jax.jit
def energy(x: jax.Array) -> jax.Array:
    """A number, of neighbours."""
    return jnp.sum(jnp.sin(x[1:]) * x[:-1])


def cases() -> dict[str, tuple[Callable[[], Any], Callable[[jax.Array], Any]]]:
    """By name, a call from Python, and what its compiled program has to compute."""
    x = jnp.linspace(0.1, 1.0, UNKNOWNS)
    vector, rows = np.ones(UNKNOWNS), np.ones(UNKNOWNS - 1)
    direction = jnp.asarray(vector)
    block, hessian = blockjac.block_jacobian(residuals)(x), blockjac.block_hessian(energy)(x)
    numbers = blockjac.sparse_jacobian(residuals, format="bcoo")
    operator, curvature = block.to_scipy_operator(), hessian.to_scipy_operator()
    transforms = {
        "jacobian": blockjac.jacobian(residuals),
        "block_jacobian": blockjac.block_jacobian(residuals),
        "grad": blockjac.grad(energy),
        "value_and_grad": blockjac.value_and_grad(energy),
        "hessian": blockjac.hessian(energy),
        "block_hessian": blockjac.block_hessian(energy),
        "sparse_jacobian, bcoo": numbers,
    }
    return {
        **{name: (partial(made, x), made) for name, made in transforms.items()},
        **{
            f"sparse_jacobian, {name}": (
                partial(blockjac.sparse_jacobian(residuals, format=name), x),
                lambda x: numbers(x).data,
            )
            for name in ("csr", "csc", "coo", "dia")
        },
        "hvp": (
            lambda: blockjac.hvp(energy, x, direction),
            lambda x: blockjac.hvp(energy, x, direction),
        ),
        "jvp": (
            lambda: blockjac.jvp(energy, (x,), (direction,)),
            lambda x: blockjac.jvp(energy, (x,), (direction,)),
        ),
        "Block.matvec": (lambda: block.matvec(direction), block.matvec),
        "Block.vecmat": (lambda: block.vecmat(rows), lambda x: block.vecmat(x[1:])),
        "Block.dense": (block.dense, lambda x: blockjac.block_jacobian(residuals)(x).dense()),
        "Block.to_scipy": (block.to_scipy, lambda x: numbers(x).data),
        "Block.to_bcoo": (block.to_bcoo, lambda x: numbers(x).data),
        "to_scipy_operator() @ v": (lambda: operator @ vector, block.matvec),
        "of a Hessian, to_scipy_operator() @ v": (lambda: curvature @ vector, hessian.matvec),
    }


def task(name: str) -> harness.Task:
    """One call, and its compiled program alone."""
    call, program = cases()[name]
    compiled = jax.jit(harness.arrays_of(program))
    return harness.Task(
        title=f"{name}, {UNKNOWNS} unknowns",
        arguments=(jnp.linspace(0.1, 1.0, UNKNOWNS),),
        contenders={harness.OURS: lambda _: call(), PROGRAM: compiled},
        jitted=False,
    )


def overheads(measured: Mapping[str, Measured]) -> str:
    """What each call takes over its program, the medians' difference, as a section of the page."""
    lines = ["## Over the compiled program", "", "| call | over |", "|---|---|"]
    missed = []
    for name, one in measured.items():
        ours, program = one[harness.OURS], one[PROGRAM]
        if not isinstance(ours, Measurement) or not isinstance(program, Measurement):
            missed.append(f"{name} (failed)")
            continue
        over = float(np.nanmedian(ours.rounds - program.rounds))
        lines.append(f"| {name} | {harness.duration(max(over, 0.0))} |")
        if over > LIMIT:
            missed.append(f"{name} ({harness.duration(over)})")
    answer = f"**missed** by {', '.join(missed)}" if missed else "met"
    return "\n".join([*lines, "", f"- at most {harness.duration(LIMIT)} a call: {answer}", ""])


TASKS = {name: partial(task, name) for name in cases()} if __name__ == "__main__" else {}

if __name__ == "__main__":
    harness.main(
        "A call from Python costs its compiled program and some microseconds", TASKS, overheads
    )
