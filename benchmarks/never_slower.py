"""Every task of every script, and real programs: ours against the best of JAX's own ways.

Ours is `jacobian` against the faster of `jacfwd` and `jacrev`, `grad` against `jax.grad`, each in
one jit. A task whose ratio is over 0.9 is measured twice, and all rounds count. The worst ratio
stands on top. What a first answer takes, with tracing and compiling, is `first_answers.py`'s.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import jax

import blockjac
import chains
import gradients
import harness
import kernels
import laplacians
import lecture_gradient
import likelihoods
import loops
import network_pieces
import overview
import partial_derivatives
import per_example
import probabilities
import programs
import second_order
import sizes
import solves
import stencils
import structured
from overview import Row
from real_programs import PROGRAMS

AGAIN_OVER = 0.9
MEAN_LIMIT = 0.3
ROUNDS = 21
CONTENDER_SECONDS = 2.0
GRADIENT = "jax.grad"

JACOBIAN_SIZES: Mapping[str, Mapping[str, int]] = {
    "transformer": {"batch": 2, "length": 8, "width": 16, "heads": 2, "hidden": 32},
    "residual network": {
        "images": 4,
        "side": 8,
        "channels": 3,
        "first": 4,
        "second": 8,
        "classes": 10,
    },
    "lstm": {"time": 8, "batch": 4, "inputs": 4, "hidden": 8},
    "neural ode": {"batch": 8, "states": 4, "hidden": 16},
    "masked attention": {"batch": 2, "heads": 2, "length": 16, "size": 8},
    "reprojection": {"cameras": 5, "points": 20, "observations": 100},
    "kalman filter": {"time": 20, "states": 4, "seen": 2},
    "flux": {"cells": 1_024},
    "mixture": {"examples": 200, "inputs": 4, "parts": 4},
}
"""Sizes of the real programs whose dense Jacobian is a few megabytes."""


def program_jacobian(name: str, sizes: Mapping[str, int]) -> harness.Task:
    """The dense Jacobian of a real program's output by its first argument."""
    program = PROGRAMS[name]
    assert program.output is not None
    arguments = program.arguments(**sizes)[: program.outputs]
    return harness.Task(
        title=name,
        arguments=arguments,
        contenders={
            harness.OURS: blockjac.jacobian(program.output),
            "jacfwd": jax.jacfwd(program.output),
            "jacrev": jax.jacrev(program.output),
        },
        alike=(harness.OURS, "jacfwd", "jacrev"),
    )


SCRIPTS: Mapping[str, Mapping[str, Callable[[], harness.Task]]] = {
    "kernels": kernels.TASKS,
    "chains": chains.TASKS,
    "second_order": second_order.TASKS,
    "stencils": stencils.TASKS,
    "structured": structured.TASKS,
    "gradients": gradients.TASKS,
    "lecture_gradient": lecture_gradient.TASKS,
    "network_pieces": network_pieces.TASKS,
    "probabilities": probabilities.TASKS,
    "programs": programs.TASKS,
    "program_jacobians": {
        name.replace(" ", "-"): partial(program_jacobian, name, sizes)
        for name, sizes in JACOBIAN_SIZES.items()
    },
    "sizes": sizes.TASKS,
    "loops": loops.TASKS,
    "likelihoods": likelihoods.TASKS,
    "solves": solves.TASKS,
    "per_example": per_example.TASKS,
    "laplacians": laplacians.TASKS,
    "partial_derivatives": partial_derivatives.TASKS,
}


def rows_of(
    tasks: Mapping[str, Callable[[], harness.Task]], script: str, rounds: int, again_over: float
) -> list[Row]:
    """The tasks of one script that one of JAX's ways answers too, measured."""
    rows = []
    for name, make in tasks.items():
        task = make()
        ways = overview.ways_of(task)
        if harness.OURS not in task.contenders or not ways:
            continue
        row = overview.compare(
            f"{script}: {name}", task, ways, rounds, CONTENDER_SECONDS, again_over
        )
        rows.append(row)
        print(overview.line(row), flush=True)
    return rows


def worst_first(rows: Sequence[Row]) -> list[Row]:
    """By ratio of time; those that have none stand last."""
    return sorted(rows, key=lambda row: (math.isnan(row.ratio), -row.ratio))


def conclusion(rows: Sequence[Row]) -> str:
    """What holds and what does not, for Jacobians and for gradients."""
    gradients_, jacobians = (
        [row for row in rows if (GRADIENT in row.ways) is wanted] for wanted in (True, False)
    )
    free = [row for row in jacobians if math.isfinite(row.ratio) and row.floor_ratio < MEAN_LIMIT]
    mean = harness.geometric_mean([row.ratio for row in free])
    answer = "met" if mean <= MEAN_LIMIT else "**missed**"
    return "\n".join(
        [
            "## In short",
            "",
            "Jacobians and Hessians:",
            "",
            overview.never_slower(jacobians),
            f"- the {len(free)} of them whose result takes less than {MEAN_LIMIT:g} x the best of "
            f"JAX to fill: geometric mean at most {MEAN_LIMIT:g} x: {mean:.3g} x, {answer}",
            overview.never_larger(jacobians),
            "",
            "Gradients:",
            "",
            overview.never_slower(gradients_),
            overview.never_larger(gradients_),
            "",
        ]
    )


def main() -> None:
    """Measure all tasks, or those of one script, and write the page."""
    claim = "Never slower than the best of JAX's own ways"
    options = harness.options_of(claim, SCRIPTS, ROUNDS)
    again_over = math.inf if options.quick else AGAIN_OVER
    page = harness.Page(claim, writes=not options.quick and options.only is None)
    rows = []
    for script, tasks in SCRIPTS.items():
        if options.only in (None, script):
            rows += rows_of(tasks, script, options.rounds, again_over)
    rows = worst_first(rows)
    page.add(conclusion(rows))
    page.add(f"## All tasks, the worst ratio first\n\n{overview.table(rows)}")
    page.write()


if __name__ == "__main__":
    main()
