"""Calls from a compiled program to LAPACK and SuperLU on the host, for one matrix or a batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from blockjac.base.arrays import Shape
from blockjac.devices import rates

Result = jax.ShapeDtypeStruct


def call(function: Callable[..., Any], results: Any, *arrays: Any) -> Any:
    """Call a function of NumPy arrays from a compiled program.

    Under `jax.vmap` its arrays have leading axes, of size 1 where an array is not batched.

    Args:
        function: takes the arrays, and returns arrays.
        results: the shapes and dtypes of the results for one matrix.
        arrays: the arguments of the function.
    """
    return jax.pure_callback(function, results, *arrays, vmap_method="expand_dims")


def seconds(stored: float, arrays: int = 1) -> float:
    """About how long it takes to call the host with some arrays of this many bytes together."""
    device = rates()
    return arrays * device.seconds_a_host_call + stored / device.host_bytes_per_second


def over_batch(
    function: Callable[..., Sequence[np.ndarray]], arrays: Sequence[Any], ranks: Sequence[int]
) -> list[np.ndarray]:
    """Apply a function of one matrix to each matrix of a batch.

    Args:
        function: returns a sequence of arrays.
        arrays: the arguments of the function, each with leading batch axes.
        ranks: the number of axes of each array for one matrix.
    """
    numbers = [np.asarray(array) for array in arrays]
    batches = [array.shape[: array.ndim - rank] for array, rank in zip(numbers, ranks, strict=True)]
    batch: Shape = np.broadcast_shapes(*batches)
    flat = [
        np.broadcast_to(array, (*batch, *shape)).reshape(math.prod(batch), *shape)
        for array, rank in zip(numbers, ranks, strict=True)
        for shape in [array.shape[array.ndim - rank :]]
    ]
    results = [function(*parts) for parts in zip(*flat, strict=True)]
    return [
        np.stack(part).reshape((*batch, *np.shape(part[0]))) for part in zip(*results, strict=True)
    ]
