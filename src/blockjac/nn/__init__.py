"""A feedforward network, its loss, and backpropagation as a contraction of Jacobian blocks."""

from blockjac.nn.functions import (
    affine,
    cross_entropy,
    log_softmax,
    logistic,
    softmax,
    softmax_cross_entropy,
)
from blockjac.nn.network import (
    NetworkParams,
    initial_params,
    loss,
    mistakes,
    probabilities,
    scores,
)

__all__ = [
    "NetworkParams",
    "affine",
    "cross_entropy",
    "initial_params",
    "log_softmax",
    "logistic",
    "loss",
    "mistakes",
    "probabilities",
    "scores",
    "softmax",
    "softmax_cross_entropy",
]
