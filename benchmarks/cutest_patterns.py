"""Stored places against true nonzeros, over the CUTEst problems that are written in JAX.

Every problem runs in a process of its own, in bounded memory and time:

    python benchmarks/cutest_patterns.py                 all problems
    python benchmarks/cutest_patterns.py --quick         ten of them
    python benchmarks/cutest_patterns.py BROYDN7D NASH   these

For each Hessian of an objective and each Jacobian of constraints it prints the places that the
block has, those that are true (entries that are not 0 at two random points, where the matrix is
small) and those of asdex's pattern. Needs `sif2jax` and, for the last column, `asdex`.
"""

import argparse
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

SMALL = 4_000_000
"""Up to so many entries the dense matrix says which are not 0."""

MEMORY = 4 * 2**30
"""Bytes of data that a problem may take."""


def functions_of(problem: Any) -> Iterator[tuple[str, Callable[[Any], Any], bool]]:
    """What a problem has patterns of: name, function, and whether its Hessian is meant."""
    args = problem.args
    value = jax.eval_shape(lambda y: problem.objective(y, args), problem.y0)
    if getattr(value, "shape", None) == ():
        yield "objective", lambda y: problem.objective(y, args), True
    if hasattr(problem, "constraint"):
        for place, name in enumerate(("equalities", "inequalities")):
            if jax.eval_shape(problem.constraint, problem.y0)[place] is not None:
                yield name, lambda y, place=place: problem.constraint(y)[place], False


def places_of(function: Callable[[Any], Any], point: Any, second: bool) -> int:
    """The places of our block."""
    import blockjac

    if second:
        return blockjac.block_hessian(function)(point)[0, 0].nnz
    return blockjac.block_jacobian(function)(point).nnz


def true_places(function: Callable[[Any], Any], point: Any, second: bool) -> int | None:
    """The entries that are not 0 at one of two random points; None for a large matrix."""
    rows = point.size if second else jax.eval_shape(function, point).size
    if rows * point.size > SMALL:
        return None
    derivative = jax.jit((jax.hessian if second else jax.jacfwd)(function))
    found = np.zeros((rows, point.size), bool)
    for seed in range(2):
        noise = np.random.default_rng(seed).uniform(0.1, 0.9, point.shape)
        found |= np.asarray(derivative(point + noise)).reshape(found.shape) != 0
    return int(found.sum())


def asdex_places(function: Callable[[Any], Any], point: Any, second: bool) -> int | None:
    """The places of asdex's pattern; None where it finds none."""
    try:
        import asdex

        detect = asdex.hessian_sparsity if second else asdex.jacobian_sparsity
        return int(detect(function, point).nnz)
    except Exception:  # a peer that fails on a problem has no figure there
        return None


def run_one(name: str) -> None:
    """Print the rows of one problem."""
    import sif2jax

    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    jax.config.update("jax_enable_x64", True)
    problem = next(one for one in sif2jax.problems if one.name == name)
    point = jax.tree.map(jnp.asarray, problem.y0)
    for what, function, second in functions_of(problem):
        ours = places_of(function, point, second)
        true = true_places(function, point, second)
        peer = asdex_places(function, point, second)
        allowed = max(1.1 * (true or 0) + 100, peer or 0)
        verdict = "" if true is None and peer is None else "ok" if ours <= allowed else "OVER"
        print(f"{name:12} {what:13} {ours:>10} {true!s:>10} {peer!s:>10}  {verdict}", flush=True)


def main() -> None:
    """Run the named problems, each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="problems; all where none is named")
    parser.add_argument("--quick", action="store_true", help="some problems, where none is named")
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds a problem")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        run_one(arguments.one)
        return
    import sif2jax

    every = [problem.name for problem in sif2jax.problems]
    names = arguments.names or (every[:: len(every) // 10] if arguments.quick else every)
    print(f"{'problem':12} {'of':13} {'places':>10} {'true':>10} {'asdex':>10}")
    for name in names:
        command = [sys.executable, __file__, "--one", name]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=arguments.timeout, check=False
            )
        except subprocess.TimeoutExpired:
            print(f"{name:12} took more than {arguments.timeout:g} s", flush=True)
            continue
        print(done.stdout, end="", flush=True)
        if done.returncode:
            last = done.stderr.strip().splitlines()[-1:] or ["no message"]
            print(f"{name:12} failed: {last[0][:200]}")


if __name__ == "__main__":
    main()
