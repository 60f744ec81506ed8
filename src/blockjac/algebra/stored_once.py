"""Small factors of a large result, stored before the loop that reads them many times.

A compiler for an accelerator fuses what a factor is computed from into the loop that reads it, and
so computes an entry anew each time it is read: the Jacobian of a softmax over 512 rows, written
out, reads each of its 51,200 entries 512 times. Stored, an entry is computed once; that takes one
more operation of the device, which is worth it if the result is large enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jax import lax

from blockjac.algebra.backend import backend
from blockjac.devices import current, rates
from blockjac.terms.factor import Factor

OPERATIONS_AN_ENTRY = 50
"""About what it takes to compute an entry: a few of exp, tanh and division."""


def stored_once(factors: Sequence[Factor], size: int) -> list[Factor]:
    """The factors of a result of this many entries, stored where that pays.

    Args:
        factors: whose entries the loop reads that writes the result.
        size: how often it reads an entry of each.
    """
    if current().platform == "cpu":
        return list(factors)
    return [_stored(factor) if storing_pays(factor, size) else factor for factor in factors]


def storing_pays(factor: Factor, size: int) -> bool:
    """Whether computing entries anew takes longer than storing them.

    Args:
        factor: whose entries are read.
        size: how often an entry of it is read.
    """
    if isinstance(factor.array, np.ndarray):
        return False  # a constant
    device = rates()
    again = OPERATIONS_AN_ENTRY * (size - factor.numel) / device.operations_per_second
    moved = 2 * factor.numel * factor.array.dtype.itemsize / device.bytes_per_second
    return again > moved + device.seconds_a_contraction


def _stored(factor: Factor) -> Factor:
    """The factor, which no loop computes again."""
    array = factor.array
    stored = backend().array(array.shape, array.dtype, lambda: lax.optimization_barrier(array))
    return replace(factor, array=stored)
