"""Sizes that grow: batches, widths and depths of a network, each from small to large.

One size grows at a time; the others are a batch of 256 (64 for widths), a width of 64 and two
hidden layers, from 30 inputs to 10 classes.
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np

import blockjac
import harness
import overview

INPUTS, CLASSES = 30, 10
BATCHES = (64, 256, 1_024, 4_096, 16_384, 65_536)
WIDTHS = (16, 64, 256, 1_024, 4_096)
DEPTHS = (2, 5, 10, 20, 50, 100)
ROUNDS = 11
CONTENDER_SECONDS = 1.0

Layers = list[tuple[jax.Array, jax.Array]]


def probabilities(X: jax.Array, layers: Layers) -> jax.Array:
    """The softmax of a network of tanh layers, for each row."""
    *hidden, (W, b) = layers
    for weights, bias in hidden:
        X = jnp.tanh(X @ weights + bias)
    return jax.nn.softmax(X @ W + b, axis=1)


def loss(layers: Layers, X: jax.Array) -> jax.Array:
    """The mean of minus the logarithm of the first class's probability."""
    return -jnp.mean(jnp.log(probabilities(X, layers)[:, 0]))


def problem(batch: int, width: int, depth: int) -> tuple[jax.Array, Layers]:
    """Examples, and a network of `depth` hidden layers."""
    generator = np.random.default_rng(0)
    widths = [INPUTS, *[width] * depth, CLASSES]
    layers = [
        (
            jnp.asarray(generator.normal(size=(before, after)) / np.sqrt(before)),
            jnp.asarray(0.1 * generator.normal(size=after)),
        )
        for before, after in pairwise(widths)
    ]
    return jnp.asarray(generator.normal(size=(batch, INPUTS))), layers


def by_rows(mode: Callable[..., Callable]) -> Callable[[jax.Array, Layers], jax.Array]:
    """The Jacobian of each row by itself."""

    def jacobian(X: jax.Array, layers: Layers) -> jax.Array:
        row = mode(lambda x, layers: probabilities(x[None], layers)[0])
        return jax.vmap(row, in_axes=(0, None))(X, layers)

    return jacobian


def blocks(batch: int, width: int, depth: int) -> harness.Task:
    """The Jacobian of the probabilities by the inputs, one block a row."""
    arguments, ours = problem(batch, width, depth), blockjac.block_jacobian(probabilities)
    harness.require_right(jax.jit(ours)(*arguments), probabilities, arguments, 0)
    return harness.Task(
        title=f"blocks, batch {batch}, width {width}, depth {depth}",
        arguments=arguments,
        contenders={
            harness.OURS: ours,
            "vmap(jacfwd)": by_rows(jax.jacfwd),
            "vmap(jacrev)": by_rows(jax.jacrev),
        },
    )


def dense(batch: int, width: int, depth: int) -> harness.Task:
    """The same with the zeros between the rows."""
    return harness.Task(
        title=f"dense, batch {batch}, width {width}, depth {depth}",
        arguments=problem(batch, width, depth),
        contenders={
            harness.OURS: blockjac.jacobian(probabilities),
            "jacfwd": jax.jacfwd(probabilities),
            "jacrev": jax.jacrev(probabilities),
        },
        alike=(harness.OURS, "jacfwd", "jacrev"),
    )


def gradient(batch: int, width: int, depth: int) -> harness.Task:
    """The gradient of the loss by all parameters."""
    return harness.Task(
        title=f"gradient, batch {batch}, width {width}, depth {depth}",
        arguments=problem(batch, width, depth)[::-1],
        contenders={harness.OURS: blockjac.grad(loss), "jax.grad": jax.grad(loss)},
        alike=(harness.OURS, "jax.grad"),
    )


SIZES = {
    **{f"batch {batch}": (batch, 64, 2) for batch in BATCHES},
    **{f"width {width}": (64, width, 2) for width in WIDTHS},
    **{f"depth {depth}": (256, 64, depth) for depth in DEPTHS},
}
QUESTIONS: dict[str, tuple[str, Callable[..., harness.Task], Sequence[str]]] = {
    "blocks": ("Blocks by the inputs, one a row", blocks, ("vmap(jacfwd)", "vmap(jacrev)")),
    "dense": ("The dense Jacobian by the inputs", dense, ("jacfwd", "jacrev")),
    "gradient": ("The gradient of a loss by all parameters", gradient, ("jax.grad",)),
}
TASKS = {
    f"{question}-{size}".replace(" ", "-"): partial(make, *sizes)
    for question, (_, make, _) in QUESTIONS.items()
    for size, sizes in SIZES.items()
}


def main() -> None:
    """Measure all sizes, or those of one question, and write the page."""
    claim = "Sizes that grow: never slower, from small to large"
    options = harness.options_of(claim, QUESTIONS, ROUNDS)
    page = harness.Page(claim, writes=not options.quick and options.only is None)
    for question, (title, make, ways) in QUESTIONS.items():
        if options.only not in (None, question):
            continue
        rows = []
        for size, sizes in SIZES.items():
            row = overview.compare(size, make(*sizes), ways, options.rounds, CONTENDER_SECONDS)
            rows.append(row)
            print(overview.line(row), flush=True)
        page.add(f"## {title}\n\n{overview.table(rows, 'size')}\n{overview.never_slower(rows)}\n")
    page.write()


if __name__ == "__main__":
    main()
