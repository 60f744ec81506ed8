"""The lecture's 100 steps of descent, compiled, beside a plain JAX loop; the program's memory."""

import subprocess
import sys
import tempfile
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

import harness
from blockjac import optimize
from lecture_gradient import Params, lecture_problem, loss

STEPS = 100
ALPHA, BETA, TRIALS = 0.1, 0.5, 60
MEMORY_LIMIT = 450
WATCH = """
import resource, subprocess, sys
done = subprocess.run([sys.executable, *sys.argv[1:]], stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(done.returncode)
"""
IMPORTS = "import jax.numpy, sklearn.datasets, matplotlib.pyplot; jax.numpy.zeros(1)"


def by_blockjac(params: Params, X: jax.Array, Y: jax.Array) -> tuple[Any, jax.Array]:
    """The steps by this library: parameters and the losses after each step."""
    rule = optimize.Backtracking(alpha=ALPHA, beta=BETA, first_step=1.0, max_trials=TRIALS)
    found = optimize.descent(loss, params, X, Y, steps=STEPS, line_search=rule)
    return found.params, found.trace.loss


def by_plain_jax(params: Params, X: jax.Array, Y: jax.Array) -> tuple[Any, jax.Array]:
    """The same steps as a user of JAX writes them."""

    def step(state: tuple[Any, jax.Array], _: None) -> tuple[tuple[Any, jax.Array], jax.Array]:
        params, value = state
        gradient = jax.grad(loss)(params, X, Y)
        slope = -sum(jnp.vdot(leaf, leaf) for leaf in jax.tree.leaves(gradient))

        def moved(t: jax.Array) -> Any:
            return jax.tree.map(lambda leaf, slant: leaf - t * slant, params, gradient)

        def too_long(trial: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
            count, t, reached = trial
            enough = (reached <= value + ALPHA * t * slope) & (reached < value)
            return (count < TRIALS) & ~enough

        def shrink(
            trial: tuple[jax.Array, jax.Array, jax.Array],
        ) -> tuple[jax.Array, jax.Array, jax.Array]:
            count, t, _ = trial
            return count + 1, BETA * t, loss(moved(BETA * t), X, Y)

        first = jnp.asarray(1.0)
        _, t, reached = lax.while_loop(too_long, shrink, (1, first, loss(moved(first), X, Y)))
        return (moved(t), reached), reached

    (params, _), losses = lax.scan(step, (params, loss(params, X, Y)), None, length=STEPS)
    return params, losses


def training() -> harness.Task:
    """All steps in one compiled call."""
    return harness.Task(
        title=f"{STEPS} steps of descent with backtracking, one compiled call",
        arguments=lecture_problem(),
        contenders={harness.OURS: by_blockjac, "plain JAX loop": by_plain_jax},
        alike=(harness.OURS, "plain JAX loop"),
        claims=(harness.Claim(1.0, ("plain JAX loop",)),),
    )


def peak_megabytes(arguments: list[str]) -> float:
    """The most memory that a Python process held, in MB.

    A small process in between starts it: a process also counts what its parent held at the start.

    Raises:
        RuntimeError: the process failed.
    """
    done = subprocess.run(
        [sys.executable, "-c", WATCH, *arguments], capture_output=True, check=False, text=True
    )
    if done.returncode != 0:
        raise RuntimeError(f"'python {' '.join(arguments)}' failed:\n{done.stderr}")
    return float(done.stdout) * (1 if sys.platform == "darwin" else 1024) / 1e6


def memory() -> str:
    """The peak memory of the whole program, beside that of its imports."""
    imports = peak_megabytes(["-c", IMPORTS])
    with tempfile.TemporaryDirectory() as plots:
        program = peak_megabytes(["-m", "blockjac", "lecture", "--plots", plots])
    answer = "met" if program <= MEMORY_LIMIT else "**missed**"
    return "\n".join(
        [
            "## Peak memory",
            "",
            "| process | peak |",
            "|---|---|",
            f"| `blockjac lecture --plots` | {program:.0f} MB |",
            f"| imports of JAX, scikit-learn and matplotlib | {imports:.0f} MB |",
            "",
            f"- the program in at most {MEMORY_LIMIT} MB: {answer}",
            "",
        ]
    )


if __name__ == "__main__":
    harness.main(
        "The lecture's training takes at most a plain JAX loop's time",
        {"training": training},
        memory,
    )
