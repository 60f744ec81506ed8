"""What is taken for the Jacobian of a step by mistake."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from blockjac.checking.slopes import BY_ARGUMENT, BY_VALUE


@dataclass(frozen=True, eq=False)
class Local:
    """An elementwise step's numbers at the point.

    Attributes:
        start: the values of u.
        end: the values of v.
        diagonal: the derivative of each entry of v by that of u.
        at_end: the same at v in place of u; None if that cannot be known.
        cotangent: of v.
    """

    start: np.ndarray
    end: np.ndarray
    diagonal: np.ndarray
    at_end: np.ndarray | None
    cotangent: np.ndarray


@dataclass(frozen=True, eq=False)
class Variant:
    """A cotangent of u in place of the right one.

    Attributes:
        name: of the mistake.
        hint: what was done in place of what; `{step}` stands for the step.
        cotangent: of u.
        doubt: how much less likely it is than the others.
    """

    name: str
    hint: str
    cotangent: np.ndarray
    doubt: int = 0


def elementwise_variants(local: Local) -> Iterator[Variant]:
    """What is taken for the derivative of an elementwise step, the likeliest first."""
    c, d = local.cotangent, local.diagonal
    if not d.size or (np.ptp(d) == 0 and d.any()):
        return  # linear: any mistake is a constant factor
    yield Variant("derivative left out", "the derivative of {step} was left out", c)
    yield Variant("derivative taken twice", "the derivative of {step} is there twice", c * d * d)
    hint = "the derivative of {step} has the other sign"
    yield Variant("sign of a derivative", hint, -c * d, 2)
    hint = "the value of {step} was taken for its derivative"
    yield Variant("value for the derivative", hint, c * local.end)
    yield from _other_forms(local)
    if local.at_end is not None:
        hint = "the derivative of {step} was taken at its value a in place of its argument z"
        yield Variant("derivative at the value", hint, c * local.at_end)
    for axis, size in enumerate(c.shape):
        if size > 1:
            hint = (
                f"the Jacobian of {{step}} is diagonal; without its delta on axis {axis} every "
                "entry was multiplied by every derivative; multiply entry by entry"
            )
            for summed, factor in ((c, d), (c * d, 1.0)):
                if np.ptp(summed, axis=axis).any():  # else it is a factor, the size of the axis
                    wrong = summed.sum(axis, keepdims=True) * factor
                    yield Variant("missing delta", hint, np.broadcast_to(wrong, c.shape), 2)


def _other_forms(local: Local) -> Iterator[Variant]:
    """The formula of the derivative at the wrong array, and that of another function."""
    with np.errstate(all="ignore"):
        for form in BY_VALUE:
            if not np.allclose(form.formula(local.end), local.diagonal, rtol=1e-4, atol=1e-6):
                continue
            text = form.text.replace("a", "z")
            hint = (
                f"{text} was taken for {form.text}: the derivative of {{step}} is written by its "
            )
            hint += "value a, but was given its argument z"
            wrong = local.cotangent * form.formula(local.start)
            yield Variant("argument for the value", hint, wrong)
            for partner in BY_VALUE:
                if partner is not form:
                    hint = f"{partner.text} was taken, which is the derivative of "
                    hint += f"{partner.function}, but that of {{step}} is {form.text}"
                    wrong = local.cotangent * partner.formula(local.end)
                    yield Variant("derivative of another function", hint, wrong)
        for form in BY_ARGUMENT:
            slope = form.formula(local.start)
            if not np.allclose(slope, local.diagonal, rtol=1e-4, atol=1e-6):
                hint = f"{form.text} of its argument z was taken for the derivative of {{step}}; "
                hint += f"it is that of {form.function}"
                wrong = local.cotangent * slope
                yield Variant("derivative of another function", hint, wrong, 2)


# Steps whose Jacobians are matrices, one for each row


def row_variants(
    jacobian: np.ndarray, cotangent: np.ndarray, end: np.ndarray, axis: int
) -> Iterator[Variant]:
    """What is taken for the Jacobian of a step that computes each row by itself.

    Args:
        jacobian: of shape (rows, d, d): of entry i of v by entry j of u.
        cotangent: of v.
        end: the values of v.
        axis: along which the rows lie.
    """
    c = np.moveaxis(cotangent, axis, -1)
    shape = c.shape
    rows = c.reshape(-1, shape[-1])
    p = np.moveaxis(end, axis, -1).reshape(rows.shape)

    def back(changed: np.ndarray) -> np.ndarray:
        """The cotangent of u, if the Jacobian were this."""
        return np.moveaxis(np.einsum("ni,nij->nj", rows, changed).reshape(shape), -1, axis)

    split = _split(jacobian, p)
    doubt = 0 if split is not None and split[0].any() else 8
    hint = "the Jacobian of {step} was left out"
    yield Variant("Jacobian left out", hint, cotangent, doubt)
    diagonal = np.einsum("nii->ni", jacobian)
    hint = "of the Jacobian of {step} only the diagonal was taken"
    eye = np.eye(shape[-1])
    yield Variant("diagonal for the Jacobian", hint, back(diagonal[:, :, None] * eye), doubt)
    yield Variant(
        "factor transposed",
        "the Jacobian of {step} was taken transposed",
        back(np.swapaxes(jacobian, 1, 2)),
        doubt,
    )
    hint = "the Jacobian of {step} is there twice"
    yield Variant("derivative taken twice", hint, back(jacobian @ jacobian), doubt)
    hint = "the value of {step} was taken for its Jacobian"
    yield Variant("value for the derivative", hint, cotangent * end, doubt + 3)
    if split is not None:
        yield from _terms(*split, eye, back)
    if len(rows) > 1:
        hint = "the Jacobian of {step} has a delta between its rows; without it their sum was taken"
        total = back(jacobian)
        for other in range(total.ndim):
            if other != axis % total.ndim and total.shape[other] > 1:
                summed = np.broadcast_to(total.sum(other, keepdims=True), total.shape)
                yield Variant("missing delta", hint, summed, doubt + 2)


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


def _terms(
    diagonal: np.ndarray,
    product: np.ndarray,
    eye: np.ndarray,
    back: Callable[[np.ndarray], np.ndarray],
) -> Iterator[Variant]:
    """Mistakes in `diag(d) + u v'`."""
    full = diagonal[:, :, None] * eye
    text = "the Jacobian of {step} is a diagonal and a product, diag(d) + outer(u, v); "
    yield Variant("missing term", f"{text}the product was left out", back(full))
    yield Variant("missing term", f"{text}the diagonal was left out", back(product))
    yield Variant("sign of a term", f"{text}the product has the other sign", back(full - product))
    hint = f"{text}the product was taken twice"
    yield Variant("constant factor of a term", hint, back(full + 2 * product))
    hint = f"{text}the diagonal was taken twice"
    yield Variant("constant factor of a term", hint, back(2 * full + product))
    ones = np.ones_like(product)
    hint = f"{text}without its delta the diagonal was added to whole rows or columns"
    yield Variant("missing delta", hint, back(diagonal[:, :, None] * ones + product))
    yield Variant("missing delta", hint, back(diagonal[:, None, :] * ones + product))
    dots = np.einsum("nii->n", product)[:, None, None] * ones
    hint = f"{text}the product was given as one number, u @ v; write np.outer(u, v)"
    yield Variant("outer product is a dot product", hint, back(full + dots))
    yield Variant("outer product is a dot product", hint, back(full + dots * eye))
