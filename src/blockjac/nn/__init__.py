"""A feedforward network, its loss, and backpropagation as a contraction of Jacobian blocks."""

from blockjac.nn import jacobians
from blockjac.nn.composition import CompositionBlocks, composition_blocks
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
from blockjac.nn.sweep import stage_jacobians, sweep

__all__ = [
    "CompositionBlocks",
    "NetworkParams",
    "affine",
    "composition_blocks",
    "cross_entropy",
    "initial_params",
    "jacobians",
    "log_softmax",
    "logistic",
    "loss",
    "mistakes",
    "probabilities",
    "scores",
    "softmax",
    "softmax_cross_entropy",
    "stage_jacobians",
    "sweep",
]
