"""Intervals from the errors of rows that were left out: the studentized jackknife.

The error of each row, predicted without itself, is divided by the standard deviation that the model
had for it. The quantile of these scores, times the standard deviation at a new row, covers its
target about as often as the level says, whether or not errors are normal; and intervals are wider
where rows are rare. With the true refits in the place of their linear approximation this is the
jackknife with normalized residuals.

Source: J. Lei, M. G'Sell, A. Rinaldo, R. J. Tibshirani and L. Wasserman, Distribution-free
predictive inference for regression, JASA 113 (2018); R. F. Barber, E. J. Candes, A. Ramdas and
R. J. Tibshirani, Predictive inference with the jackknife+, Annals of Statistics 49 (2021).
"""

from __future__ import annotations

import numpy as np

from blockjac.estimators.leave_one_out import LeftOut
from blockjac.estimators.tables import Numbers


def scores(left_out: LeftOut, values: Numbers, noise: Numbers, units: Numbers) -> Numbers:
    """The error of each left-out row over its standard deviation, shape `(n, outputs)`.

    Args:
        left_out: outputs with and without each row.
        values: standardized targets.
        noise: the variance of targets around outputs.
        units: how much of a row's weight is left out.
    """
    share = np.einsum("nii->ni", left_out.spread)
    without = share / np.maximum(1 - share * units[:, None], 1e-3)  # as wide as the fit was
    return (values - left_out.without) / np.sqrt(noise * (1 + without))


def quantile(scores: Numbers, weights: Numbers, level: float) -> Numbers:
    """The size that a share of scores does not exceed, of each column.

    Args:
        scores: shape `(n, outputs)`.
        weights: of the rows.
        level: the share; a little more is taken, as the new row is one more.
    """
    sizes = np.abs(scores)
    order = np.argsort(sizes, axis=0)
    below = np.cumsum(weights[order], axis=0)
    wanted = level * (below[-1] + np.mean(weights[weights > 0]))
    place = np.minimum(np.sum(below < wanted - 1e-9 * wanted, axis=0), len(sizes) - 1)
    return np.take_along_axis(sizes, np.take_along_axis(order, place[None], 0), 0)[0]
