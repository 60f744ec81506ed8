"""What is asked of a problem: right numbers, and no more places and numbers than promised."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import blockjac

SMALL = 1_000_000
"""Up to so many entries JAX's dense matrix is compared with; of a larger one, products."""

TOLERANCE = 1e-8

Function = Callable[[Any], Any]


@dataclass(frozen=True)
class Row:
    """One derivative of a problem.

    Attributes:
        what: of which function.
        shape: rows and columns.
        places: of our block.
        stored: numbers of our block.
        true: entries that are not 0 at one of two points; None for a large matrix.
        peer: places of asdex's pattern; None where it is not needed, or has none.
        wrong: what differs from JAX.
    """

    what: str
    shape: tuple[int, int]
    places: int
    stored: int
    true: int | None
    peer: int | None
    wrong: tuple[str, ...]

    @property
    def over(self) -> tuple[str, ...]:
        """Which of the promises on places and on stored numbers are broken, as far as known."""
        found = []
        if self.true is None and self.peer is None:
            return ()
        true = self.true or 0
        if self.places > max(1.1 * true + 100, self.peer or 0):
            found.append("places")
        count = self.peer if self.true is None else self.true
        is_sparse = 4 * (count or 0) <= self.shape[0] * self.shape[1]
        if is_sparse and self.stored > 2 * (count or 0) + 1000:
            found.append("stored")
        return tuple(found)


def functions_of(problem: Any) -> Iterator[tuple[str, Function, bool]]:
    """What a problem has derivatives of: name, function, and whether its Hessian is meant."""
    args = problem.args
    value = jax.eval_shape(lambda y: problem.objective(y, args), problem.y0)
    if getattr(value, "shape", None) == ():
        yield "objective", lambda y: problem.objective(y, args), True
    if hasattr(problem, "constraint"):
        for place, name in enumerate(("equalities", "inequalities")):
            if jax.eval_shape(problem.constraint, problem.y0)[place] is not None:
                yield name, lambda y, place=place: problem.constraint(y)[place], False


def rows_of(problem: Any, told: Callable[[str], None] = lambda what: None) -> Iterator[Row]:
    """The derivatives of a problem, each judged.

    Args:
        problem: of the collection.
        told: hears what is done next.
    """
    point = jnp.asarray(problem.y0)
    noise = np.random.default_rng(0).uniform(0.1, 0.9, point.shape)
    for what, function, second in functions_of(problem):
        told(what)
        yield _row(what, function, second, [point, point + noise], told)


def _row(
    what: str, function: Function, second: bool, points: list[Any], told: Callable[[str], None]
) -> Row:
    size = points[0].size
    shape = (size if second else jax.eval_shape(function, points[0]).size, size)
    is_small = shape[0] * shape[1] <= SMALL
    derivative = _block_of(function, second)
    places = stored = 0
    seen = np.zeros(shape if is_small else (0, 0), bool)
    wrong: list[str] = []
    for point in points:
        if second:
            told(f"{what}: gradient")
            alike = _differs(blockjac.grad(function)(point), jax.grad(function)(point))
            wrong += [f"gradient {alike}"] if alike else []
        told(f"{what}: ours")
        block = derivative(point)
        places, stored = max(places, block.nnz), max(stored, block.stored)
        told(f"{what}: JAX")
        if is_small:
            ours = np.reshape(block.dense(), shape)
            expected = _nearer(ours, function, second, point)
            seen |= np.isfinite(expected) & (expected != 0)
            wrong += _against(expected, ours, block)
        else:
            wrong += _products(block, jax.grad(function) if second else function, point)
    told(f"{what}: asdex")
    true = int(seen.sum()) if is_small else None
    needed = true is None or places > 1.1 * true + 100
    peer = asdex_places(function, points[0], second) if needed else None
    return Row(what, shape, places, stored, true, peer, tuple(dict.fromkeys(wrong)))


def _block_of(function: Function, second: bool) -> Function:
    if second:
        hessian = blockjac.block_hessian(function)
        return lambda point: hessian(point)[0, 0]
    return blockjac.block_jacobian(function)


def _dense(function: Function, second: bool) -> Function:
    return jax.jit((jax.hessian if second else jax.jacfwd)(function))


def _nearer(ours: np.ndarray, function: Function, second: bool, point: Any) -> np.ndarray:
    """JAX's matrix; of the two that its two ways give, the one that ours agrees with.

    They differ where a program reads off its arrays, as some do at reduced sizes.
    """
    forward = np.asarray(_dense(function, second)(point)).reshape(ours.shape)
    if second or not _differs(ours, forward):
        return forward
    reverse = np.asarray(jax.jit(jax.jacrev(function))(point)).reshape(ours.shape)
    return forward if _differs(ours, reverse) else reverse


def _against(expected: np.ndarray, ours: np.ndarray, block: Any) -> Iterator[str]:
    """What differs from JAX's matrix: in numbers, and in places."""
    for name, matrix in (("dense", ours), ("sparse", block.to_scipy().toarray())):
        differs = _differs(matrix, expected)
        if differs:
            yield f"{name} {differs}"
    outside = expected[~block.pattern().to_scipy().toarray()]
    if (np.isfinite(outside) & (outside != 0)).any():
        yield "pattern misses an entry"


def _products(block: Any, function: Function, point: Any) -> Iterator[str]:
    """What differs in products of a large matrix with vectors."""
    random = np.random.default_rng(1)
    for _ in range(2):
        tangent = jnp.asarray(random.normal(size=point.shape))
        expected = jax.jvp(function, (point,), (tangent,))[1]
        differs = _differs(jnp.ravel(block.matvec(tangent)), jnp.ravel(expected))
        if differs:
            yield f"product {differs}"


def _differs(ours: Any, theirs: Any) -> str:
    """How our numbers differ from JAX's where JAX's are finite; empty where they do not."""
    found, expected = np.asarray(ours, float), np.asarray(theirs, float)
    finite = np.isfinite(expected)
    if not np.isfinite(found[finite]).all():
        return "is not finite"
    scale = max(np.abs(expected[finite]).max(initial=0.0), 1e-3)
    near = np.isclose(found[finite], expected[finite], rtol=TOLERANCE, atol=0.1 * TOLERANCE * scale)
    return "" if near.all() else "differs"


def asdex_places(function: Function, point: Any, second: bool) -> int | None:
    """The places of asdex's pattern; None where it finds none."""
    try:
        import asdex

        detect = asdex.hessian_sparsity if second else asdex.jacobian_sparsity
        return int(detect(function, point).nnz)
    except Exception:  # a peer that fails on a problem has no figure there
        return None
