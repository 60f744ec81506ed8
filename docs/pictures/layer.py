"""Draw layer.svg: the Jacobian of a layer as one array, and as the factors that a Block stores.

Run it in an environment with the extra `app`: `python docs/pictures/layer.py`.
"""

from pathlib import Path

import jax.numpy as jnp
import matplotlib as mpl
import numpy as np

import blockjac

mpl.use("svg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

EXAMPLES, INPUTS, OUTPUTS = 8, 5, 4
BLUE, ORANGE = "#3f51b5", "#e8871e"
TEXT = """∂ tanh(X W)[n, j] / ∂ W[k, j']
= δ[j, j'] A[n, j] X[n, k]

A is the slope of tanh; the
Kronecker delta δ takes no
memory. Nothing is multiplied
until something needs it."""


def main() -> None:
    """Compute the block, and draw it beside its factors."""
    plt.rcParams.update({"svg.hashsalt": "blockjac", "font.family": "DejaVu Sans", "font.size": 9})
    rng = np.random.default_rng(0)
    X = jnp.asarray(rng.uniform(0.2, 1, (EXAMPLES, INPUTS)))
    W = jnp.asarray(rng.normal(size=(INPUTS, OUTPUTS)) / 2)
    block = blockjac.block_jacobian(lambda W: jnp.tanh(X @ W))(W)
    dense = np.asarray(block.dense()).reshape(EXAMPLES * OUTPUTS, INPUTS * OUTPUTS)
    slope = np.asarray(1 - jnp.tanh(X @ W) ** 2)

    figure, axes = plt.subplots(figsize=(7.6, 5.2), layout="constrained")
    rows, columns = dense.shape
    picture(axes, dense, BLUE, corner=(0, 0))
    axes.text(0, -1.2, f"jax.jacrev stores {dense.size} numbers", weight="bold")
    axes.text(columns / 2, rows + 1.4, "W[k, j']", ha="center")
    axes.text(-1.2, rows / 2, "tanh(X W)[n, j]", rotation=90, va="center")
    start = columns + 6
    picture(axes, slope, ORANGE, corner=(start, 0))
    picture(axes, np.asarray(X), ORANGE, corner=(start + OUTPUTS + 2, 0))
    axes.text(start, -1.2, f"blockjac stores {block.stored}", weight="bold")
    axes.text(start + OUTPUTS / 2, EXAMPLES + 1.4, "A[n, j]", ha="center")
    axes.text(start + OUTPUTS + 2 + INPUTS / 2, EXAMPLES + 1.4, "X[n, k]", ha="center")
    axes.text(start, EXAMPLES + 4, TEXT, va="top", linespacing=1.5)
    axes.set_xlim(-3, start + 20)
    axes.set_ylim(rows + 2.5, -3)
    axes.set_aspect("equal")
    axes.axis("off")
    out = Path(__file__).with_suffix(".svg")
    figure.savefig(out, metadata={"Date": None})


def picture(axes: Axes, matrix: np.ndarray, colour: str, corner: tuple[int, int]) -> None:
    """A matrix as unit squares: the larger the number, the fuller its colour; zeros stay white."""
    rows, columns = matrix.shape
    left, top = corner
    colours = mpl.colors.LinearSegmentedColormap.from_list("of numbers", ["white", colour])
    extent = (left, left + columns, top + rows, top)
    axes.imshow(np.abs(matrix), cmap=colours, vmin=0, extent=extent, interpolation="nearest")
    axes.hlines(range(top, top + rows + 1), left, left + columns, colors="#dddddd", linewidth=0.5)
    axes.vlines(range(left, left + columns + 1), top, top + rows, colors="#dddddd", linewidth=0.5)


if __name__ == "__main__":
    main()
