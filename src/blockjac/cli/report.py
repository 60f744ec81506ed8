"""`blockjac lecture --report`: the trained network explained, with the pictures of its training."""

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path

from jax import Array
from jax.typing import ArrayLike

from blockjac import nn
from blockjac.explanations.explain import explain
from blockjac.explanations.explanation import Explanation
from blockjac.explanations.page.page import page_of
from blockjac.explanations.step import step

TITLES = {
    "loss": "The loss after each step",
    "gradient_norm": "The norm of the gradient before each step",
    "training_accuracy": "The rows that are put into their class, in percent",
    "step_size": "The step that the line search accepted",
}
"""Names of the pictures of a training, and what they show."""


def explained_network(params: nn.NetworkParams, X: ArrayLike, Y: ArrayLike) -> Explanation:
    """The gradients of the lecture's network, with the lecture's names of its functions.

    Args:
        params: The point.
        X: Examples in rows, shape `(n, k)`.
        Y: Their classes, one-hot, shape `(n, m)`.

    Examples:
        >>> import numpy as np
        >>> params = nn.initial_params(3, 2, 2)
        >>> print(explained_network(params, np.ones((4, 3)), np.eye(2)[[0, 1, 1, 0]]).chain_rule)
        D_W₁ loss = D_Q ℓ ⋆ D_Z₂ ψ₂ ⋆ D_X₂ φ₂ ⋆ D_Z₁ ψ₁ ⋆ D_W₁ φ₁
        ...
    """
    phi_1, psi_1 = step("phi_1")(nn.affine), step("psi_1", "X_2")(nn.logistic)
    phi_2, psi_2 = step("phi_2")(nn.affine), step("psi_2")(nn.softmax)
    ell = step("ell")(nn.cross_entropy)

    def loss(W1: Array, b1: Array, W2: Array, b2: Array) -> Array:
        return ell(Y, psi_2(phi_2(psi_1(phi_1(X, W1, b1)), W2, b2)))

    return explain(loss, (0, 1, 2, 3))(params.W1, params.b1, params.W2, params.b2)


def report_page(explanation: Explanation, folder: Path, lines: Sequence[str]) -> str:
    """The page of a trained network.

    Args:
        explanation: Of the network at its trained point.
        folder: Holds the pictures of the training, as PNG files.
        lines: Sentences about the training.
    """
    figures = "".join(map(_figure, sorted(folder.glob("*.png"), key=_rank)))
    said = "".join(f"<p>{escape(line)}</p>\n" for line in lines)
    pictures = f'<div class="pictures">{figures}</div>'
    training = f"<section>\n<h2>The training</h2>\n{said}{pictures}\n</section>\n"
    return page_of(explanation.page_parts, after=training)


def _rank(file: Path) -> tuple[int, str]:
    """The place of a picture: those of the training, then the line searches in turn."""
    names = list(TITLES)
    return (names.index(file.stem) if file.stem in names else len(names)), file.stem


def _figure(file: Path) -> str:
    """A picture with what it shows, its bytes in the page."""
    number = file.stem.rpartition("_")[2]
    title = TITLES.get(file.stem, f"The line search of step {number.lstrip('0') or '0'}")
    data = base64.b64encode(file.read_bytes()).decode()
    return (
        f'<figure><img alt="{escape(title)}" src="data:image/png;base64,{data}">'
        f"<figcaption>{escape(title)}</figcaption></figure>"
    )
