"""What a user may set of an estimator, checked."""

from __future__ import annotations

import numbers
from typing import Any

import numpy as np

from blockjac.errors import InvalidDataError, InvalidOptionError
from blockjac.estimators.fitted import Options
from blockjac.estimators.network import ACTIVATIONS
from blockjac.estimators.tables import Numbers
from blockjac.estimators.training_loop import Watch

SOLVERS = ("auto", "gauss-newton", "adam")

LEAST_ALPHA = 1e-12
"""In the place of 0, so that the curvature is regular."""

_DTYPES = ("auto", "float64", "float32")


def checked_options(estimator: Any, watch: Watch) -> Options:
    """The parameters, checked.

    Raises:
        InvalidOptionError: names the parameter, its value and what it may be.
    """
    choices = {"activation": tuple(ACTIVATIONS), "solver": SOLVERS, "dtype": _DTYPES}
    for name, allowed in choices.items():
        if getattr(estimator, name) not in allowed:
            raise InvalidOptionError(
                f"{name} is {getattr(estimator, name)!r}, but must be one of "
                f"{', '.join(map(repr, allowed))}"
            )
    for name in ("max_iter", "n_iter_no_change"):
        _check_number(name, getattr(estimator, name), 1, np.inf, whole=True)
    _check_number("tol", estimator.tol, 0, np.inf)
    if estimator.learning_rate_init != "auto":
        _check_number(
            "learning_rate_init", estimator.learning_rate_init, 1e-300, np.inf, or_auto=True
        )
    _check_number("validation_fraction", estimator.validation_fraction, 1e-9, 1 - 1e-9)
    if estimator.alpha != "auto":
        _check_number("alpha", estimator.alpha, 0, np.inf, or_auto=True)
    if estimator.batch_size != "auto":
        _check_number("batch_size", estimator.batch_size, 1, np.inf, whole=True, or_auto=True)
    if estimator.early_stopping not in ("auto", True, False):
        raise InvalidOptionError(
            f"early_stopping is {estimator.early_stopping!r}, but must be True, False or 'auto'"
        )
    shares = {True: float(estimator.validation_fraction), False: 0.0, "auto": None}
    sizes, alpha = estimator.hidden_layer_sizes, estimator.alpha
    rate = estimator.learning_rate_init
    return Options(
        hidden=None if _is_auto(sizes) else nodes(sizes),
        activation=estimator.activation,
        strength=None if alpha == "auto" else max(float(alpha), LEAST_ALPHA),
        solver=None if estimator.solver == "auto" else estimator.solver,
        max_steps=int(estimator.max_iter),
        tolerance=float(estimator.tol),
        batch_size=None if estimator.batch_size == "auto" else int(estimator.batch_size),
        rate=None if rate == "auto" else float(rate),
        validation=shares[estimator.early_stopping],
        patience=int(estimator.n_iter_no_change),
        watch=watch,
    )


def nodes(sizes: Any) -> tuple[int, ...]:
    """The nodes of the hidden layers that were asked for."""
    given = sizes
    sizes = [sizes] if isinstance(sizes, numbers.Integral) else sizes
    try:
        counts = tuple(int(size) for size in sizes)
        is_whole = all(isinstance(size, numbers.Integral) for size in sizes)
    except (TypeError, ValueError):
        counts, is_whole = (), False
    if not is_whole or any(size < 1 for size in counts):
        raise InvalidOptionError(
            f"hidden_layer_sizes is {given!r}, but must be 'auto', or whole "
            "numbers of at least 1, such as (16,) or (32, 16); () for a linear model"
        )
    return counts


def _is_auto(sizes: Any) -> bool:
    return isinstance(sizes, str) and sizes == "auto"


def _check_number(
    name: str, value: Any, least: float, most: float, *, whole: bool = False, or_auto: bool = False
) -> None:
    """Raise for a parameter outside of its range.

    Raises:
        InvalidOptionError: says what it is and what it may be.
    """
    is_number = isinstance(value, numbers.Integral if whole else numbers.Real)
    if is_number and value is not True and least <= float(value) <= most:
        return
    kind = "a whole number" if whole else "a number"
    span = f"of at least {least:g}" if most == np.inf else f"between {least:.1g} and {most:.4g}"
    auto = ", or 'auto'" if or_auto else ""
    raise InvalidOptionError(f"{name} is {value!r}, but must be {kind} {span}{auto}")


def checked_weights(sample_weight: Any, rows: int) -> Numbers:
    """The weights of rows.

    Args:
        sample_weight: of the user; None for 1 each.
        rows: how many there are.

    Raises:
        InvalidDataError: if they are not as many, negative, not finite, or all 0.
    """
    if sample_weight is None:
        return np.ones(rows)
    if isinstance(sample_weight, numbers.Real):
        return np.full(rows, float(sample_weight))
    weights = np.asarray(sample_weight, float)
    if weights.ndim != 1:
        raise InvalidDataError(
            f"Sample weights must be 1D array or scalar, got {weights.ndim}D array"
        )
    if weights.shape != (rows,):
        raise InvalidDataError(
            f"sample_weight.shape == {weights.shape}, expected {(rows,)}!: one for each row"
        )
    if not (np.isfinite(weights).all() and (weights >= 0).all() and weights.any()):
        raise InvalidDataError(
            "sample_weight must hold finite numbers of at least 0, and not zeros alone"
        )
    return weights
