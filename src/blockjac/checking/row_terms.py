"""Mistakes in a row's Jacobian that is a diagonal and a product: `diag(d) + outer(u, v)`.

That of softmax is one, of its logarithm, of a mean that is subtracted, of a norm that divides.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from blockjac.checking.variant import Variant

TEXT = "the Jacobian of {step} is a diagonal and a product, diag(d) + outer(u, v); "
"""How every hint begins."""


@dataclass(frozen=True, eq=False)
class Rows:
    """A step that computes each row by itself, at the point.

    Attributes:
        cotangent: of its end.
        end: its values.
        axis: along which the rows lie.
    """

    cotangent: np.ndarray
    end: np.ndarray
    axis: int

    def listed(self, array: np.ndarray) -> np.ndarray:
        """An array as a list of rows."""
        return np.moveaxis(array, self.axis, -1).reshape(-1, array.shape[self.axis])

    def whole(self, rows: np.ndarray) -> np.ndarray:
        """A list of rows as an array."""
        shape = np.moveaxis(self.end, self.axis, -1).shape
        return np.moveaxis(rows.reshape(shape), -1, self.axis)

    def back(self, jacobian: np.ndarray) -> np.ndarray:
        """The cotangent of the step's start, if the Jacobian of each row were this."""
        return self.whole(np.einsum("ni,nij->nj", self.listed(self.cotangent), jacobian))

    @property
    def count(self) -> int:
        """How many rows there are."""
        return self.end.size // self.end.shape[self.axis]

    def split(self, jacobian: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        """A diagonal and a product of rank one whose sum is a Jacobian; None if there is none."""
        return _split(jacobian, self.listed(self.end))


def _split(jacobian: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """A diagonal and a product of rank one whose sum is a Jacobian; None if there is none.

    The entries off the diagonal belong to the product, and give its diagonal where the rows have
    three entries. With two entries the product of the values themselves is tried.
    """
    size = jacobian.shape[-1]
    off = ~np.eye(size, dtype=bool)
    product = p[:, :, None] * p[:, None, :]
    scale = np.abs(jacobian).max() or 1.0
    for sign in (-1, 1):
        if np.abs((jacobian - sign * product)[:, off]).max(initial=0.0) <= 1e-5 * scale:
            rest = np.einsum("nii->ni", jacobian - sign * product)
            return rest, sign * product
    if size < 3:
        return None
    completed = jacobian.copy()
    for i in range(size):
        j, k = [n for n in range(size) if n != i][:2]
        with np.errstate(all="ignore"):
            completed[:, i, i] = jacobian[:, i, j] * jacobian[:, k, i] / jacobian[:, k, j]
    if not np.isfinite(completed).all():
        return None
    with np.errstate(all="ignore"):
        again = completed[:, :, :1] * completed[:, :1, :] / completed[:, :1, :1]
    if not np.allclose(again, completed, rtol=1e-4, atol=1e-6 * scale):
        return None
    return np.einsum("nii->ni", jacobian - completed), completed


def term_variants(diagonal: np.ndarray, product: np.ndarray, rows: Rows) -> Iterator[Variant]:
    """What is taken for `diag(d) + outer(u, v)`.

    Args:
        diagonal: d of each row.
        product: the outer product of each row.
        rows: the step.
    """
    eye = np.eye(diagonal.shape[-1])
    full = diagonal[:, :, None] * eye
    yield Variant("missing term", f"{TEXT}the product was left out", rows.back(full))
    yield Variant("missing term", f"{TEXT}the diagonal was left out", rows.back(product))
    hint = f"{TEXT}the product has the other sign"
    yield Variant("sign of a term", hint, rows.back(full - product))
    hint = f"{TEXT}the product was taken twice"
    yield Variant("constant factor of a term", hint, rows.back(full + 2 * product))
    hint = f"{TEXT}the diagonal was taken twice"
    yield Variant("constant factor of a term", hint, rows.back(2 * full + product))
    ones = np.ones_like(product)
    hint = f"{TEXT}without its delta the diagonal was added to whole rows or columns"
    yield Variant("missing delta", hint, rows.back(diagonal[:, :, None] * ones + product))
    yield Variant("missing delta", hint, rows.back(diagonal[:, None, :] * ones + product))
    dots = np.einsum("nii->n", product)[:, None, None] * ones
    hint = f"{TEXT}the product was given as one number, u @ v; write np.outer(u, v)"
    yield Variant("outer product is a dot product", hint, rows.back(full + dots))
    yield Variant("outer product is a dot product", hint, rows.back(full + dots * eye))
    scales = diagonal[:, :1, None]
    if (
        scales.all()
        and np.ptp(scales)
        and np.ptp(diagonal, axis=1).max() <= 1e-6 * np.abs(scales).max()
    ):
        hint = (
            "the Jacobian of {step} has a factor for each row, such as one over a norm, that was "
        )
        yield Variant("missing factor", f"{hint}left out", rows.back((full + product) / scales))
    factors = _factors(product, rows.listed(rows.end))
    if factors is not None and diagonal.any():
        yield from _of_factors(diagonal, *factors, rows)


def _factors(product: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """The factors u and v of a product, as they are written: one of them is 1, or the values."""
    limit = 1e-5 * (np.abs(product).max() or 1.0)
    for u in (np.ones_like(p), p):
        v = np.einsum("ni,nij->nj", u, product) / np.maximum((u * u).sum(1), 1e-300)[:, None]
        if np.abs(u[:, :, None] * v[:, None, :] - product).max() <= limit:
            return u, v
    u = np.einsum("nij,nj->ni", product, p) / np.maximum((p * p).sum(1), 1e-300)[:, None]
    is_product = np.abs(u[:, :, None] * p[:, None, :] - product).max() <= limit
    return (u, p) if is_product else None


def _of_factors(
    diagonal: np.ndarray, u: np.ndarray, v: np.ndarray, rows: Rows
) -> Iterator[Variant]:
    """A factor of the product is left out, or its sum is taken over the wrong axis."""
    c = rows.listed(rows.cotangent)
    first = rows.whole(diagonal * c)
    signs = np.sign(v)
    if np.ptp(u):
        hint = f"{TEXT}in the sum over u its factor u was left out"
        yield Variant("missing factor", hint, first + rows.whole(c.sum(1)[:, None] * v))
    if np.ptp(v) and not np.ptp(signs):
        hint = f"{TEXT}its factor v was left out"
        yield Variant("missing factor", hint, first + rows.whole((c * u).sum(1)[:, None] * signs))
    summed, outer, axis = rows.whole(c * u), rows.whole(v), rows.axis % rows.end.ndim
    shape = summed.shape
    hint = f"{TEXT}the sum over u was taken over axis {{axis}} of {shape} in place of axis {axis}"
    for wrong in (*range(summed.ndim), None):
        if wrong == axis or summed.ndim == 1:
            continue
        sums = summed.sum(wrong, keepdims=True)
        text = hint.replace("{axis}", "0 and all others" if wrong is None else str(wrong))
        sizes = shape[axis] / (summed.size if wrong is None else shape[wrong])
        for factor in (1.0, sizes):  # the second of a mean
            yield Variant("summed over the wrong axis", text, first + factor * sums * outer, 1)
    flat = summed.sum(axis)
    if summed.ndim > 1 and np.broadcast_shapes(shape, shape[-flat.ndim :]) == shape:
        hint = f"{TEXT}the sum over u needs keepdims=True: without it it went along another axis"
        if flat.shape == shape[-flat.ndim :]:
            yield Variant("summed over the wrong axis", hint, first + flat * outer, 1)
