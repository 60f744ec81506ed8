"""Chains of layers: the order of contraction is that which dynamic programming finds by hand."""

from collections.abc import Callable, Sequence
from functools import cache, partial, reduce
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np

import blockjac
import harness

CHAINS = (
    (500, 20, 500, 10, 300),
    (2000, 50, 2000, 20, 1500),
    (400, 400, 10, 400, 400),
)
"""Widths from the input to the output."""

Tree = int | tuple["Tree", "Tree"]


def chain(x: jax.Array, weights: Sequence[jax.Array]) -> jax.Array:
    """`x -> tanh(W x)` for one weight after the other."""
    return reduce(lambda value, W: jnp.tanh(W @ value), weights, x)


def cheapest_order(widths: tuple[int, ...]) -> tuple[int, Tree]:
    """The order in which to multiply a chain's matrices, by dynamic programming.

    Matrix `i` is `widths[i + 1] x widths[i]`; the last one stands leftmost.

    Returns:
        Scalar multiplications, and the order: a matrix's number, or a pair, the left factor first.
    """

    @cache
    def best(first: int, last: int) -> tuple[int, Tree]:
        if first == last:
            return 0, first
        options = []
        for middle in range(first, last):
            right, left = best(first, middle), best(middle + 1, last)
            product = widths[last + 1] * widths[middle + 1] * widths[first]
            options.append((right[0] + left[0] + product, (left[1], right[1])))
        return min(options, key=lambda option: option[0])

    return best(0, len(widths) - 2)


def by_hand(order: Tree) -> Callable[[jax.Array, Sequence[jax.Array]], jax.Array]:
    """The Jacobian as the product of `diag(1 - y^2) W` of all layers, in the order given."""

    def product(part: Tree, factors: Sequence[jax.Array]) -> jax.Array:
        if isinstance(part, int):
            return factors[part]
        left, right = part
        return product(left, factors) @ product(right, factors)

    def jacobian(x: jax.Array, weights: Sequence[jax.Array]) -> jax.Array:
        factors = []
        for W in weights:
            x = jnp.tanh(W @ x)
            factors.append((1 - x * x)[:, None] * W)
        return product(order, factors)

    return jacobian


def task(widths: tuple[int, ...]) -> harness.Task:
    """The dense Jacobian of one chain by its input."""
    generator = np.random.default_rng(0)
    weights = tuple(
        jnp.asarray(generator.normal(size=(after, before)) / np.sqrt(before))
        for before, after in pairwise(widths)
    )
    multiplications, order = cheapest_order(widths)
    return harness.Task(
        title=f"tanh chain {name(widths)}",
        arguments=(jnp.asarray(generator.normal(size=widths[0])), weights),
        contenders={
            harness.OURS: blockjac.jacobian(chain),
            "jacfwd": jax.jacfwd(chain),
            "jacrev": jax.jacrev(chain),
            "by hand": by_hand(order),
        },
        dense="by hand",
        alike=(harness.OURS, "jacfwd", "jacrev", "by hand"),
        claims=(
            harness.Claim(1.2, ("by hand",)),
            harness.Claim(1.05, ("jacfwd", "jacrev")),
        ),
        note=f"By hand in the cheapest order, {multiplications:,} multiplications of numbers.",
    )


def name(widths: tuple[int, ...]) -> str:
    """`500-20-300`."""
    return "-".join(map(str, widths))


TASKS = {name(widths): partial(task, widths) for widths in CHAINS}

if __name__ == "__main__":
    harness.main("Chains of layers: as fast as in the best order by hand", TASKS)
