"""The time to the first answer: trace, plan and compile a program that nobody has seen before.

Programs of 100 and of 1,000 equations as Python writes them: chains, graphs in which values are
used again, numbers that follow from each other, and pytrees of 50 leaves. Before each call what
JAX, the planner and the emitter remember is forgotten, as in a process that has just begun.

Programs of 1,000 equations are compiled and not run: where values are used again, the compiler for
CPUs computes them again in each loop that reads them, for ours and for JAX's alike, and 350
unrolled equations already take a minute to run.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import blockjac
import harness
from blockjac.algebra import plan_cache, replay

SIZES = (100, 1_000)
LEAVES = 50

Program = Callable[[Any], Any]


def chain(equations: int) -> tuple[Program, jax.Array]:
    """One value after the other."""

    def program(x: jax.Array) -> jax.Array:
        for _ in range(equations // 2):
            x = jnp.sin(x) * 1.01
        return x

    return program, jnp.linspace(0.1, 1, 10)


def graph(equations: int) -> tuple[Program, jax.Array]:
    """Each value made of two of the last eight."""
    generator = np.random.default_rng(0)
    drawn = [
        (int(generator.integers(1, 9)), int(generator.integers(1, 9)), int(generator.integers(4)))
        for _ in range(equations)
    ]
    operations = (
        lambda a, b: a * b,
        lambda a, b: a + b,
        lambda a, b: jnp.sin(a) + b,
        lambda a, b: a - 0.5 * b,
    )

    def program(x: jax.Array) -> jax.Array:
        values = [x]
        while len(values) < equations:
            one, other, operation = drawn[len(values)]
            operands = (values[-min(place, len(values))] for place in (one, other))
            values.append(operations[operation](*operands))
        return values[-1] + values[-2]

    return program, jnp.linspace(0.1, 0.2, 10)


def unrolled(equations: int) -> tuple[Program, jax.Array]:
    """Two numbers, and a line of Python for each step."""

    def program(x: jax.Array) -> jax.Array:
        a, b = x[0], x[1]
        for k in range(equations // 8):
            a, b = a + 0.01 * jnp.sin(b * (1 + k % 3)), b - 0.01 * a * b
        return a * b

    return program, jnp.array([0.3, 0.7])


def pytree(equations: int) -> tuple[Program, dict[str, jax.Array]]:
    """A sum over the neighbouring leaves of a tree."""
    generator = np.random.default_rng(0)
    leaves = {f"leaf {k}": jnp.asarray(generator.normal(size=4)) for k in range(LEAVES)}

    def program(tree: dict[str, jax.Array]) -> jax.Array:
        total = jnp.zeros(4)
        for _ in range(max(1, equations // (3 * LEAVES))):
            for k in range(LEAVES):
                total = total + jnp.sin(tree[f"leaf {k}"]) * tree[f"leaf {(k + 1) % LEAVES}"]
        return total

    return program, leaves


def summed(program: Program) -> Program:
    """The program with one number as its result."""
    return lambda x: jnp.sum(program(x))


def first_answer(transform: Callable[[Program], Program], program: Program, runs: bool) -> Any:
    """What gives the answer of a function that JAX has never met, compiled for it.

    Args:
        transform: of the function.
        program: the function.
        runs: whether the compiled program is run.
    """

    def call(x: Any) -> list[jax.Array]:
        jax.clear_caches()
        plan_cache.forget()
        replay.forget()
        compiled = jax.jit(harness.arrays_of(transform(program))).lower(x).compile()
        return compiled(x) if runs else []

    return call


def hessian_product(transform: str) -> Callable[[Program], Program]:
    """The product of the Hessian with the point itself."""
    if transform == harness.OURS:
        return lambda program: lambda x: blockjac.hvp(summed(program), x, x)
    return lambda program: lambda x: jax.jvp(jax.grad(summed(program)), (x,), (x,))[1]


QUESTIONS: dict[str, dict[str, Callable[[Program], Program]]] = {
    "gradient": {
        harness.OURS: lambda program: blockjac.grad(summed(program)),
        "jax.grad": lambda program: jax.grad(summed(program)),
    },
    "jacobian": {harness.OURS: blockjac.jacobian, "jacfwd": jax.jacfwd, "jacrev": jax.jacrev},
    "product": {
        harness.OURS: hessian_product(harness.OURS),
        "jax.jvp": hessian_product("jax.jvp"),
    },
    "hessian": {
        harness.OURS: lambda program: blockjac.hessian(summed(program)),
        "jax.hessian": lambda program: jax.hessian(summed(program)),
    },
}


def task(kind: Callable[[int], tuple[Program, Any]], equations: int, question: str) -> harness.Task:
    """The first answer to one question about one program."""
    program, x = kind(equations)
    ways = QUESTIONS[question]
    return harness.Task(
        title=f"{question} of a {kind.__name__} of about {equations:,} equations",
        arguments=(x,),
        contenders={
            name: first_answer(transform, program, equations == SIZES[0])
            for name, transform in ways.items()
        },
        alike=tuple(ways),
        claims=(harness.Claim(1.1, tuple(name for name in ways if name != harness.OURS)),),
        jitted=False,
        clock=time.process_time,
    )


TASKS = {
    f"{question}-{kind.__name__}-{equations}": partial(task, kind, equations, question)
    for kind in (chain, graph, unrolled, pytree)
    for equations in SIZES
    for question in QUESTIONS
    # Hessians of JAX's take the compiler minutes there.
    if question != "hessian" or (equations == SIZES[0] and kind is not pytree)
}

if __name__ == "__main__":
    harness.main("The first answer comes as soon as JAX's", TASKS)
