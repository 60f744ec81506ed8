"""Derivatives of usual functions, as learners write them: by the function's value or argument."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Form:
    """The derivative of an elementwise function, by which learners know it.

    Attributes:
        text: with `a` for the function's value, or `z` for its argument.
        formula: the same to be computed.
        function: whose derivative it is.
    """

    text: str
    formula: Callable[[np.ndarray], np.ndarray]
    function: str


def logistic(z: np.ndarray) -> np.ndarray:
    """The logistic function."""
    return 1 / (1 + np.exp(-z))


def of_logistic(z: np.ndarray) -> np.ndarray:
    """Its derivative."""
    return logistic(z) * (1 - logistic(z))


def of_tanh(z: np.ndarray) -> np.ndarray:
    """The derivative of tanh."""
    return 1 - np.tanh(z) ** 2


def is_positive(z: np.ndarray) -> np.ndarray:
    """The derivative of relu, by its value or its argument."""
    return (z > 0).astype(float)


BY_VALUE = (
    Form("a * (1 - a)", lambda a: a * (1 - a), "the logistic function"),
    Form("1 - a**2", lambda a: 1 - a**2, "tanh"),
    Form("a > 0", is_positive, "relu"),
)
"""Derivatives by the value of the function."""

BY_ARGUMENT = (
    Form("logistic'(z)", of_logistic, "the logistic function"),
    Form("1 - tanh(z)**2", of_tanh, "tanh"),
    Form("z > 0", is_positive, "relu"),
    Form("logistic(z)", logistic, "softplus"),
    Form("exp(z)", np.exp, "exp"),
)
"""Derivatives by its argument."""
