"""What is taken for the Jacobian of a step by mistake."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from blockjac.checking.row_terms import Rows, term_variants
from blockjac.checking.slopes import BY_ARGUMENT, BY_VALUE, logistic, softmax
from blockjac.checking.variant import Variant


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
    with np.errstate(all="ignore"):
        p = logistic(local.start)
    hint = "what passes {step} is multiplied by p * (1 - p), p = logistic(z), which is too much"
    yield Variant("extra factor", hint, c * d * p * (1 - p), 12)
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
            slope = form.formula(local.end)
            if not np.allclose(slope, local.diagonal, rtol=1e-4, atol=1e-6):
                hint = f"{form.text} of its value a was taken for the derivative of {{step}}, "
                hint += f"which is the derivative of {form.function}"
                wrong = local.cotangent * slope
                yield Variant("derivative of another function", hint, wrong)
                continue
            text = form.text.replace("a", "z")
            hint = (
                f"{text} was taken for {form.text}: the derivative of {{step}} is written by its "
                "value a, but was given its argument z"
            )
            wrong = local.cotangent * form.formula(local.start)
            yield Variant("argument for the value", hint, wrong)
        for form in BY_ARGUMENT:
            slope = form.formula(local.start)
            mirrored = form.formula(-local.start)
            if np.allclose(slope, local.diagonal, rtol=1e-4, atol=1e-6):
                hint = f"{form.text}, the derivative of {{step}}, was taken at -z in place of z"
                yield Variant("sign of an argument", hint, local.cotangent * mirrored, 2)
                hint = f"{hint}, and with the other sign"
                yield Variant("sign of an argument", hint, -local.cotangent * mirrored, 3)
            if not np.allclose(slope, local.diagonal, rtol=1e-4, atol=1e-6):
                hint = f"{form.text} of its argument z was taken for the derivative of {{step}}; "
                hint += f"it is that of {form.function}"
                wrong = local.cotangent * slope
                yield Variant("derivative of another function", hint, wrong, 4)


# Steps whose Jacobians are matrices, one for each row


def row_variants(
    jacobian: np.ndarray, cotangent: np.ndarray, start: np.ndarray, end: np.ndarray, axis: int
) -> Iterator[Variant]:
    """What is taken for the Jacobian of a step that computes each row by itself.

    Args:
        jacobian: of shape (rows, d, d): of entry i of v by entry j of u.
        cotangent: of v.
        start: the values of u.
        end: the values of v.
        axis: along which the rows lie.
    """
    rows = Rows(cotangent, end, axis)
    split = rows.split(jacobian)
    doubt = 0 if split is not None and split[0].any() else 8
    hint = "the Jacobian of {step} was left out"
    yield Variant("Jacobian left out", hint, cotangent, doubt)
    diagonal = np.einsum("nii->ni", jacobian)
    hint = "of the Jacobian of {step} only the diagonal was taken"
    eye = np.eye(jacobian.shape[-1])
    yield Variant("diagonal for the Jacobian", hint, rows.back(diagonal[:, :, None] * eye), doubt)
    yield Variant(
        "factor transposed",
        "the Jacobian of {step} was taken transposed",
        rows.back(np.swapaxes(jacobian, 1, 2)),
        doubt,
    )
    hint = "the Jacobian of {step} is there twice"
    yield Variant("derivative taken twice", hint, rows.back(jacobian @ jacobian), doubt)
    hint = "the value of {step} was taken for its Jacobian"
    yield Variant("value for the derivative", hint, cotangent * end, doubt + 3)
    if split is not None:
        yield from term_variants(*split, rows)
    total = rows.back(jacobian)
    with np.errstate(all="ignore"):
        p = softmax(start, axis)
    hint = "what passes {step} is multiplied by p * (1 - p), p = softmax(z), which is too much"
    yield Variant("extra factor", hint, total * p * (1 - p), 10)
    if rows.count > 1:
        hint = "the Jacobian of {step} has a delta between its rows; without it their sum was taken"
        for other in range(total.ndim):
            if other != axis % total.ndim and total.shape[other] > 1:
                summed = np.broadcast_to(total.sum(other, keepdims=True), total.shape)
                yield Variant("missing delta", hint, summed, doubt + 2)
