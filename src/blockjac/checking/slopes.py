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


def softmax(z: np.ndarray, axis: int | None = -1) -> np.ndarray:
    """Softmax along an axis; over all entries if it is None."""
    numerators = np.exp(z - z.max(axis=axis, keepdims=True))
    return numerators / numerators.sum(axis=axis, keepdims=True)


def of_logistic(z: np.ndarray) -> np.ndarray:
    """Its derivative."""
    return logistic(z) * (1 - logistic(z))


def of_tanh(z: np.ndarray) -> np.ndarray:
    """The derivative of tanh."""
    return 1 - np.tanh(z) ** 2


def is_positive(z: np.ndarray) -> np.ndarray:
    """The derivative of relu, by its value or its argument."""
    return (z > 0).astype(float)


def of_silu(z: np.ndarray) -> np.ndarray:
    """The derivative of `z * logistic(z)`."""
    return logistic(z) * (1 + z * (1 - logistic(z)))


def of_gelu(z: np.ndarray) -> np.ndarray:
    """The derivative of `z * Phi(z)`, up to the error of its usual approximation by tanh."""
    u = np.sqrt(2 / np.pi) * (z + 0.044715 * z**3)
    slope = np.sqrt(2 / np.pi) * (1 + 3 * 0.044715 * z**2)
    return 0.5 * (1 + np.tanh(u)) + 0.5 * z * of_tanh(u) * slope


def of_elu(z: np.ndarray) -> np.ndarray:
    """The derivative of elu."""
    return np.where(z > 0, 1.0, np.exp(z))


def of_softsign(z: np.ndarray) -> np.ndarray:
    """The derivative of `z / (1 + abs(z))`."""
    return 1 / (1 + np.abs(z)) ** 2


BY_VALUE = (
    Form("a * (1 - a)", lambda a: a * (1 - a), "the logistic function"),
    Form("1 - a**2", lambda a: 1 - a**2, "tanh"),
    Form("a > 0", is_positive, "relu"),
    Form("1 + min(a, 0)", lambda a: 1 + np.minimum(a, 0), "elu"),
    Form("(1 - abs(a))**2", lambda a: (1 - np.abs(a)) ** 2, "softsign"),
)
"""Derivatives by the value of the function."""

BY_ARGUMENT = (
    Form("logistic'(z)", of_logistic, "the logistic function"),
    Form("1 - tanh(z)**2", of_tanh, "tanh"),
    Form("z > 0", is_positive, "relu"),
    Form("logistic(z)", logistic, "softplus"),
    Form("exp(z)", np.exp, "exp"),
    Form("silu'(z)", of_silu, "silu"),
    Form("gelu'(z)", of_gelu, "gelu"),
    Form("elu'(z)", of_elu, "elu"),
    Form("1 / (1 + abs(z))**2", of_softsign, "softsign"),
    Form("cos(z)", np.cos, "sin"),
    Form("-sin(z)", lambda z: -np.sin(z), "cos"),
)
"""Derivatives by its argument."""
