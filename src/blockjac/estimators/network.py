"""Feedforward networks of any depth, beside a linear map: initial parameters and outputs."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

Activation = Literal["identity", "logistic", "tanh", "relu", "softplus", "gelu", "silu"]

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "identity": lambda x: x,
    "logistic": jax.nn.sigmoid,
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
    "softplus": jax.nn.softplus,
    "gelu": jax.nn.gelu,
    "silu": jax.nn.silu,
}

Params = dict[str, list[Any]]
"""`"weights"`, arrays `(inputs, outputs)` layer by layer; `"biases"`, arrays `(outputs,)`; and
`"direct"`, one array from the inputs to the outputs, or none."""


def shapes(sizes: Sequence[int], has_direct: bool) -> dict[str, list[tuple[int, ...]]]:
    """The shapes of the parameters.

    Args:
        sizes: the inputs, the nodes of each hidden layer, the outputs.
        has_direct: whether a linear map leads from the inputs to the outputs, too.
    """
    pairs = list(itertools.pairwise(sizes))
    return {
        "weights": list(pairs),
        "biases": [(outputs,) for _, outputs in pairs],
        "direct": [(sizes[0], sizes[-1])] if has_direct else [],
    }


def initial_params(
    generator: np.random.RandomState, sizes: Sequence[int], dtype: Any, *, has_direct: bool
) -> Params:
    """Weights of variance 1 over the inputs of a layer; biases and the linear map are 0.

    Args:
        generator: draws them.
        sizes: the inputs, the nodes of each hidden layer, the outputs.
        dtype: of the parameters.
        has_direct: whether a linear map leads from the inputs to the outputs, too.
    """
    wanted = shapes(sizes, has_direct)
    drawn = [generator.normal(size=pair) / np.sqrt(max(pair[0], 1)) for pair in wanted["weights"]]
    zeros = {name: [np.zeros(one, dtype) for one in wanted[name]] for name in wanted}
    return {**zeros, "weights": [weight.astype(dtype) for weight in drawn]}


def widened(params: Params, sizes: Sequence[int]) -> tuple[Params, Params]:
    """Parameters with zeros for the nodes of wider layers, and which of them belong to the network.

    Args:
        params: of a network.
        sizes: the inputs, the nodes of each hidden layer, the outputs; none smaller than it has.
    """
    wanted = shapes(sizes, bool(params["direct"]))

    def wide(arrays: Sequence[Any], forms: Sequence[tuple[int, ...]]) -> list[np.ndarray]:
        return [
            np.pad(array, [(0, new - old) for old, new in zip(array.shape, form, strict=True)])
            for array, form in zip(arrays, forms, strict=True)
        ]

    used = {name: [np.ones(part.shape, bool) for part in parts] for name, parts in params.items()}
    both = [{name: wide(tree[name], wanted[name]) for name in wanted} for tree in (params, used)]
    return both[0], both[1]


def narrowed(params: Params, sizes: Sequence[int]) -> Params:
    """The parameters of a network without the nodes that it does not have, as before `widened`.

    Args:
        params: of the wider one.
        sizes: the inputs, the nodes of each hidden layer, the outputs.
    """
    wanted = shapes(sizes, bool(params["direct"]))
    return {
        name: [
            part[tuple(map(slice, form))]
            for part, form in zip(params[name], wanted[name], strict=True)
        ]
        for name in wanted
    }


def outputs(activation: str, params: Params, X: Array) -> Array:
    """The outputs of all rows, shape `(n, outputs)`; the last layer is linear.

    Args:
        activation: of the hidden layers.
        params: of the network.
        X: the rows, shape `(n, inputs)`.
    """
    W, b = params["weights"][-1], params["biases"][-1]
    result = features(activation, params, X) @ W + b
    for direct in params["direct"]:
        result = result + X @ direct
    return result


def features(activation: str, params: Params, X: Array) -> Array:
    """What the last layer gets, shape `(n, nodes)`.

    Args:
        activation: of the hidden layers.
        params: of the network.
        X: the rows, shape `(n, inputs)`.
    """
    act = ACTIVATIONS[activation]
    for weight, bias in zip(params["weights"][:-1], params["biases"][:-1], strict=True):
        X = act(X @ weight + bias)
    return X
