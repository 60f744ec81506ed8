"""Gradients written by hand in NumPy, with one mistake in one of their pieces.

A family of `gradient_families` writes its gradient through a `Writer`, piece by piece, as a learner
does: a residual, a contraction, a sum over the batch, a slope. Each piece offers the mistakes that
are made in it; `draw` chooses a mistake, then a piece that offers it, and writes the gradient again
with it. A mistake that does no harm at the point (a factor of 1, a symmetric matrix) is not drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

SUM = {"missing sum"}
FACTOR = {"constant factor", "constant factor of a term"}
TURNED = {"transposed", "axes in another order", "factor transposed"}
LEFT_OUT = {"derivative left out", "missing factor"}
DELTA = {"missing delta"}
WRONG_AXIS = {"summed over the wrong axis"}

NAMING: dict[str, set[str]] = {
    "sign": {"sign", "sign of a term", "sign of a derivative"},
    "factor": FACTOR,
    "mean for sum": FACTOR,
    "transposed": TURNED,
    "missing sum": SUM,
    "sum over the wrong axis": WRONG_AXIS,
    "dot for outer": {"outer product is a dot product"},
    "wrong input": {"wrong factor", "extra factor"},
    "wrong cotangent": {"wrong factor", "wrong cotangent"},
    "wrong weights": {"wrong factor"},
    "forgotten target": {"missing term"},
    "swapped difference": {"sign", "sign of a term", "sign of a derivative"},
    "extra p(1-p)": {"derivative taken twice", "extra factor"},
    "weights not transposed": {"factor transposed"},
    "weights left out": {"missing factor", "Jacobian left out", "wrong factor"},
    "slope left out": LEFT_OUT,
    "slope at the value": {"derivative at the value"},
    "slope twice": {"derivative taken twice", "extra factor"},
    "value for slope": {"value for the derivative"},
    "argument for value": {"argument for the value"},
    "slope of another function": {"derivative of another function"},
    "missing delta": DELTA,
    "softmax by its diagonal": {"diagonal for the Jacobian"},
    "softmax left out": {"Jacobian left out"},
    "softmax without its product": {"missing term"},
    "softmax with a dot product": {"outer product is a dot product"},
    "term left out": {"missing term", "Jacobian left out"},
    "sign of a term": {"sign of a term"},
    "factor of a term": {"constant factor of a term"},
    "another parameter's": {"exchanged", "derivative of another variable"},
}
"""What a report may say of each mistake."""


@dataclass
class Writer:
    """Writes the pieces of a gradient, one of them with a mistake if it is told to.

    Attributes:
        mistake: the mistake and the piece to make it in; None for a right gradient.
        offers: the mistakes that the pieces offered, each with its piece.
    """

    mistake: tuple[str, str] | None = None
    offers: list[tuple[str, str]] = field(default_factory=list)

    def choose(self, piece: str, right: Any, wrong: dict[str, Callable[[], Any] | None]) -> Any:
        """What is right, or the wrong one that this writer makes."""
        answer = right
        for name, make in wrong.items():
            if make is None:
                continue
            offer = (name.split("/")[0], f"{piece}/{name}")
            if offer not in self.offers:
                self.offers.append(offer)
            if self.mistake == offer:
                answer = make()
        return answer

    def scaled(self, piece: str, q: Any, size: int = 1) -> Any:
        """An array, perhaps with another sign or a factor."""
        dtype = np.asarray(q).dtype.type
        wrong: dict[str, Any] = {
            "sign": lambda: -q,
            "factor/2": lambda: q * dtype(2),
            "factor/half": lambda: q * dtype(0.5),
        }
        if size > 1:
            wrong["factor/n"] = lambda: q * dtype(size)
            wrong["factor/1 over n"] = lambda: q / dtype(size)
        return self.choose(piece, q, wrong)

    def residual(
        self, piece: str, p: Any, y: Any, scale: Any = 1, slope: Callable[[], Any] | None = None
    ) -> Any:
        """`(p - y) * scale`."""
        return self.choose(
            piece,
            (p - y) * scale,
            {
                "forgotten target": lambda: p * scale,
                "swapped difference": lambda: (y - p) * scale,
                "extra p(1-p)": None if slope is None else lambda: (p - y) * slope() * scale,
            },
        )

    def contract(
        self, piece: str, A: Any, q: Any, inputs: Sequence[Any] = (), others: Sequence[Any] = ()
    ) -> Any:
        """`A.T @ q`, the gradient of W in `A @ W`.

        Args:
            piece: its name.
            A: the layer's input.
            q: the cotangent of its result.
            inputs: inputs of other layers.
            others: cotangents of other layers.
        """
        wrong: dict[str, Any] = {
            "transposed": lambda: (A.T @ q).T,
            "missing sum": lambda: np.einsum("ni,nj->nij", A, q),
            "mean for sum": lambda: A.T @ q / A.dtype.type(len(A)),
        }
        for position, wrong_input in enumerate(inputs):
            if wrong_input.shape == A.shape:
                wrong[f"wrong input/{position}"] = lambda B=wrong_input: B.T @ q
        for position, wrong_q in enumerate(others):
            if wrong_q.shape == q.shape:
                wrong[f"wrong cotangent/{position}"] = lambda r=wrong_q: A.T @ r
        return self.choose(piece, A.T @ q, wrong)

    def summed(self, piece: str, q: Any, keepdims: bool = False) -> Any:
        """`q.sum(0)`, the gradient of a bias."""
        wrong: dict[str, Any] = {
            "missing sum": lambda: q,
            "mean for sum": lambda: q.mean(0, keepdims=keepdims),
        }
        if q.ndim > 1:
            wrong["sum over the wrong axis"] = lambda: q.sum(1, keepdims=keepdims)
        return self.choose(piece, q.sum(0, keepdims=keepdims), wrong)

    def back(self, piece: str, q: Any, W: Any, others: Sequence[Any] = ()) -> Any:
        """`q @ W.T`, through the weights of a layer."""
        square = W.shape[0] == W.shape[1]
        wrong: dict[str, Any] = {
            "weights not transposed": (lambda: q @ W) if square else None,
            "weights left out": (lambda: q) if square else None,
        }
        for position, V in enumerate(others):
            if V.shape == W.shape:
                wrong[f"wrong weights/{position}"] = lambda V=V: q @ V.T
        return self.choose(piece, q @ W.T, wrong)

    def slope(self, piece: str, q: Any, name: str, z: Any, a: Any) -> Any:
        """`q` times the derivative of the activation."""
        function, slope = ACTIVATIONS[name]
        one = a.dtype.type(1)
        wrong: dict[str, Any] = {
            "slope left out": lambda: q,
            "value for slope": lambda: q * a,
        }
        if np.ptp(q, axis=-1).any():  # else it is a factor, the size of the axis
            wrong["missing delta"] = lambda: q.sum(-1, keepdims=True) * slope(a)
        if name != "relu":
            other = a * (one - a) if name == "tanh" else one - a**2
            wrong |= {
                "slope at the value": lambda: q * slope(function(a)),
                "slope twice": lambda: q * slope(a) ** 2,
                "argument for value": lambda: q * slope(z),
                "slope of another function": lambda: q * other,
            }
        return self.choose(piece, q * slope(a), wrong)

    def softmax(self, piece: str, g: Any, P: Any) -> Any:
        """`g` through the softmax of the last axis, whose values are P."""
        one = P.dtype.type(1)
        right = P * (g - (g * P).sum(-1, keepdims=True))
        dots = (P * P).sum(-1, keepdims=True)
        wrong: dict[str, Any] = {
            "softmax by its diagonal": lambda: g * P * (one - P),
            "softmax left out": lambda: g,
            "softmax without its product": lambda: g * P,
            "missing delta": lambda: (
                P * (g.sum(-1, keepdims=True) - (g * P).sum(-1, keepdims=True))
            ),
            "softmax with a dot product": lambda: g * P - dots * g.sum(-1, keepdims=True),
            "sign of a term": lambda: P * (g + (g * P).sum(-1, keepdims=True)),
        }
        return self.choose(piece, right, wrong)

    def added(self, piece: str, **terms: Any) -> Any:
        """The sum of terms, of paths or of summands of the function."""
        wrong: dict[str, Any] = {}
        for name in terms:
            rest = [term for other, term in terms.items() if other != name]
            total = sum(rest[1:], rest[0])
            wrong |= {
                f"term left out/{name}": lambda total=total: total,
                f"sign of a term/{name}": lambda total=total, name=name: total - terms[name],
                f"factor of a term/{name}": lambda total=total, name=name: total + 2 * terms[name],
            }
        parts = list(terms.values())
        return self.choose(piece, sum(parts[1:], parts[0]), wrong)

    def leaves(self, *leaves: Any) -> list[Any]:
        """The finished gradient, perhaps with one leaf in place of another of its shape."""
        wrong: dict[str, Any] = {}
        for i, leaf in enumerate(leaves):
            for j, other in enumerate(leaves):
                if i != j and np.shape(leaf) == np.shape(other) and np.ndim(leaf):
                    changed = [*leaves[:i], other, *leaves[i + 1 :]]
                    wrong[f"another parameter's/{i} {j}"] = lambda changed=changed: changed
        return self.choose("leaves", list(leaves), wrong)


def logistic(z: Any) -> Any:
    """In the dtype of z."""
    return 1 / (1 + np.exp(-z))


ACTIVATIONS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "tanh": (np.tanh, lambda a: 1 - a**2),
    "logistic": (logistic, lambda a: a * (1 - a)),
    "relu": (lambda z: np.maximum(z, 0), lambda a: (a > 0).astype(a.dtype)),
}
"""Each with its derivative as a function of its value."""


def softmax(z: Any) -> Any:
    """Of the last axis."""
    numerators = np.exp(z - z.max(-1, keepdims=True))
    return numerators / numerators.sum(-1, keepdims=True)


@dataclass(frozen=True)
class Problem:
    """A function at a point, with its gradient as a program of a writer.

    Attributes:
        fun: of its arguments, to be differentiated by all that `argnums` says.
        args: the point.
        argnums: which of the arguments.
        write: the gradient by hand: a list of arrays, or one array where argnums is a number.
    """

    fun: Callable[..., Any]
    args: tuple[Any, ...]
    argnums: Any
    write: Callable[[Writer], Any]


@dataclass(frozen=True)
class Draw:
    """One gradient with a mistake.

    Attributes:
        family: which program.
        problem: its function and point.
        mistake: its name.
        piece: where it was made.
        gradient: what was written.
        accepted: what a report may say: the names of the mistake, and that of a factor where the
            gradient is a multiple of the right one.
    """

    family: str
    problem: Problem
    mistake: str
    piece: str
    gradient: Any
    accepted: frozenset[str]

    def __str__(self) -> str:
        return f"{self.family}: {self.mistake} in {self.piece}"


def draw(seed: int, families: dict[str, Callable[..., Problem]]) -> Draw:
    """A family, a point of random sizes and a harmful mistake, by a seed."""
    rng = np.random.default_rng(seed)
    while True:
        family = str(rng.choice(sorted(families)))
        dtype = (np.float64, np.float64, np.float32)[rng.integers(3)]
        problem = families[family](rng, dtype)
        writer = Writer()
        right = problem.write(writer)
        names = sorted({name for name, _ in writer.offers})
        name = str(rng.choice(names))
        offers = [offer for offer in writer.offers if offer[0] == name]
        offer = offers[rng.integers(len(offers))]
        try:
            wrong = problem.write(Writer(offer))
        except ValueError:
            continue  # NumPy refuses the shapes itself
        if not is_same(wrong, right):
            accepted = frozenset(NAMING[name]) | _of_multiples(wrong, right)
            return Draw(family, problem, name, offer[1], wrong, accepted)


def _of_multiples(wrong: Any, right: Any) -> frozenset[str]:
    """The names of a factor, if each leaf is a multiple of the right one."""
    for a, b in zip(jax.tree.leaves(wrong), jax.tree.leaves(right), strict=True):
        if np.shape(a) != np.shape(b):
            return frozenset()
        factor = np.vdot(a, b) / np.vdot(b, b)
        if np.abs(a - factor * b).max() > 1e-4 * np.abs(b).max():
            return frozenset()
    return frozenset({"constant factor", "sign", "all zero"})


def is_same(left: Any, right: Any, rtol: float = 1e-3) -> bool:
    """Whether two gradients agree, by shapes and up to a share of each leaf's largest entry."""
    pairs = list(zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True))
    return all(
        np.shape(a) == np.shape(b) and np.abs(a - b).max() <= rtol * np.abs(b).max()
        for a, b in pairs
    )
