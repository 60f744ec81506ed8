"""The Jacobian of `A @ x`: known to everybody, and the first thing that colouring fails on.

A is dense, 4,000 x 2,000, or has ten entries a row. A tool that compresses by colours needs 2,000
of them for the dense one, and finds them one by one; here the Jacobian of the product is A.

The first Jacobian is that of a process of its own: packages are imported and JAX has compiled
something, then the clock starts, and stops when the matrix is there. A contender that is not done
after `PATIENCE` seconds is stopped.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import blockjac
import harness
from blockjac import interop

ROWS, COLUMNS, FEW = 4_000, 2_000, 10
GOAL = 0.3
PATIENCE = 120
JITTED = "blockjac, jitted function"
Function = Callable[[Any], Any]


class Dense:
    """A is full, and known as an array of NumPy."""

    title = f"A dense, {ROWS:,} x {COLUMNS:,}"

    def __init__(self) -> None:
        self.A = np.random.default_rng(0).normal(size=(ROWS, COLUMNS))

    def product(self, x: jax.Array) -> jax.Array:
        """`A @ x`."""
        return self.A @ x

    def full(self) -> np.ndarray:
        """A."""
        return self.A

    def casadis_matrix(self, casadi: Any) -> Any:
        """A as CasADi has it."""
        return casadi.DM(self.A)


class TenARow:
    """A is sparse: ten values a row, and their columns."""

    title = f"A with {FEW} entries a row, {ROWS:,} x {COLUMNS:,}"

    def __init__(self) -> None:
        generator = np.random.default_rng(0)
        drawn = [generator.choice(COLUMNS, FEW, replace=False) for _ in range(ROWS)]
        self.columns = np.sort(np.stack(drawn), axis=1)
        self.values = generator.normal(size=(ROWS, FEW))

    def product(self, x: jax.Array) -> jax.Array:
        """`A @ x`, row by row."""
        return jnp.sum(self.values * x[self.columns], axis=1)

    def full(self) -> np.ndarray:
        """A, with its zeros."""
        A = np.zeros((ROWS, COLUMNS))
        A[np.arange(ROWS)[:, None], self.columns] = self.values
        return A

    def casadis_matrix(self, casadi: Any) -> Any:
        """A as CasADi has it."""
        from scipy.sparse import csc_matrix

        rows = np.repeat(np.arange(ROWS), FEW)
        places = (rows, self.columns.ravel())
        return casadi.DM(csc_matrix((self.values.ravel(), places), shape=(ROWS, COLUMNS)))


MATRICES = {"dense": Dense, "ten": TenARow}
Matrix = Dense | TenARow


def ours(matrix: Matrix) -> Function:
    """A CSR array of SciPy."""
    return blockjac.sparse_jacobian(matrix.product)


def ours_of_jitted(matrix: Matrix) -> Function:
    """The same of a jitted function, which is traced once, with A as a constant of the program."""
    return blockjac.sparse_jacobian(jax.jit(matrix.product))


def ours_of_known_places(matrix: Matrix) -> Function:
    """The values in a fixed order, as NumPy's; places were found before."""
    return interop.structure(matrix.product)(jnp.zeros(COLUMNS)).values


def ours_full(matrix: Matrix) -> Function:
    """All entries in an array of JAX."""
    return blockjac.jacobian(matrix.product)


def forward(matrix: Matrix) -> Function:
    """JAX's, of all entries."""
    return jax.jit(jax.jacfwd(matrix.product))


def reverse(matrix: Matrix) -> Function:
    """JAX's by rows."""
    return jax.jit(jax.jacrev(matrix.product))


def casadis(matrix: Matrix) -> Function:
    """A sparse matrix of CasADi, from matrix expressions."""
    import casadi

    x = casadi.MX.sym("x", COLUMNS)
    y = casadi.mtimes(matrix.casadis_matrix(casadi), x)
    return casadi.Function("J", [x], [casadi.jacobian(y, x)])


def asdexs(matrix: Matrix) -> Function:
    """A sparse array of JAX, by coloured passes."""
    import asdex

    x = jax.ShapeDtypeStruct((COLUMNS,), jnp.float64)
    return jax.jit(asdex.jacobian(matrix.product, jnp.zeros(x.shape), output_format="bcoo"))


WAYS: dict[str, Callable[[Matrix], Function]] = {
    harness.OURS: ours,
    JITTED: ours_of_jitted,
    "blockjac, dense": ours_full,
    "jacfwd": forward,
    "jacrev": reverse,
    "CasADi": casadis,
    "asdex": asdexs,
}
PACKAGES = {"CasADi": "casadi", "asdex": "asdex"}


def full(jacobian: Any) -> np.ndarray:
    """Whatever a contender gives, as an array of NumPy."""
    if hasattr(jacobian, "todense"):
        return np.asarray(jacobian.todense())
    if hasattr(jacobian, "toarray"):
        return jacobian.toarray()
    return np.asarray(jacobian)


def require_right(jacobian: Any, matrix: Matrix) -> None:
    """Refuse what is not A.

    Raises:
        ArithmeticError: in that case.
    """
    if not np.allclose(full(jacobian), matrix.full(), rtol=1e-12, atol=0.0):
        raise ArithmeticError("the Jacobian is not the matrix")


def measured_here(name: str, way: str) -> None:
    """Be the process in which a contender makes its first Jacobian; print what it took."""
    if way in PACKAGES:
        __import__(PACKAGES[way])
    import scipy.sparse  # noqa: F401

    _ = blockjac.sparse_jacobian, blockjac.jacobian
    matrix, x = MATRICES[name](), np.linspace(0, 1, COLUMNS)
    jax.block_until_ready(jax.jit(lambda x: x + 1)(x))
    start = time.perf_counter()
    jacobian = jax.block_until_ready(WAYS[way](matrix)(x))
    seconds = time.perf_counter() - start
    require_right(jacobian, matrix)
    print(json.dumps(seconds))


class Stopwatch:
    """Seconds that other processes took, as the clock of a task."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        """What it shows."""
        return self.seconds

    def first(self, name: str, way: str) -> None:
        """Let a process of its own make its first Jacobian."""
        command = [sys.executable, __file__, "--here", name, way]
        try:
            done = subprocess.run(command, capture_output=True, timeout=PATIENCE, text=True)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"not done after {PATIENCE} s") from None
        if done.returncode:
            raise RuntimeError(done.stderr.strip().splitlines()[-1])
        self.seconds += json.loads(done.stdout.splitlines()[-1])


def first_jacobian(name: str) -> harness.Task:
    """From the function to the matrix, in a new process."""
    stopwatch = Stopwatch()
    sparse = ("CasADi", "asdex")
    return harness.Task(
        title=f"First Jacobian of A x, {MATRICES[name].title}",
        arguments=(),
        contenders={way: partial(stopwatch.first, name, way) for way in WAYS},
        claims=(harness.Claim(0.1, sparse), harness.Claim(1.0, ("jacfwd", "jacrev"))),
        note="To build, trace, colour, compile and run, in a process of its own each time; imports "
        "are not counted. A jitted function is traced once, with A as a constant of the program. "
        f"The goal is {GOAL} s. Published, on another machine: CasADi 16.3 s and "
        "a colouring stack of Julia 53 s for the dense matrix, both about 0.03 s for ten a row.",
        jitted=False,
        clock=stopwatch,
    )


def later_jacobian(name: str) -> harness.Task:
    """The next points."""
    matrix = MATRICES[name]()
    x = np.linspace(0, 1, COLUMNS)
    others: dict[str, harness.Peer] = {
        "CasADi": harness.Peer(partial(casadis, matrix), compiled=False, alike=False)
    }
    if name == "ten":
        others["asdex"] = harness.Peer(partial(asdexs, matrix), compiled=False, alike=False)
    return harness.Task(
        title=f"A later Jacobian of A x, {MATRICES[name].title}",
        arguments=(x,),
        contenders={},
        uncompiled={
            harness.OURS: ours_of_known_places(matrix),
            JITTED: ours_of_jitted(matrix),
            "blockjac, plain function": ours(matrix),
            "blockjac, dense": ours_full(matrix),
            "jacfwd": forward(matrix),
        },
        others=others,
        claims=(harness.Claim(1.0, tuple(others)),),
        note="Called from Python as a solver calls it: the values of `interop.structure`, CSR "
        "arrays of SciPy from `sparse_jacobian`, CasADi's own matrix, an array of JAX, sparse for "
        "asdex and with all entries for `jacfwd`. A plain function is traced at each call.",
    )


TASKS = {
    **{f"first-{name}": partial(first_jacobian, name) for name in MATRICES},
    **{f"later-{name}": partial(later_jacobian, name) for name in MATRICES},
}

if __name__ == "__main__":
    if sys.argv[1:2] == ["--here"]:
        measured_here(*sys.argv[2:])
    else:
        harness.main("The Jacobian of a product with a known matrix", TASKS)
