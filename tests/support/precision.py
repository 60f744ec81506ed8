"""Tolerances that are written for float64, in the precision that a test runs in."""

import math

import jax
import jax.numpy as jnp
import numpy as np

EPS = np.finfo(np.float64).eps


def tolerance(value, *trees):
    """What is left of a tolerance in the lowest precision among the arrays of these trees.

    The same share of the digits has to be right: 1e-10 is 64 % of the digits of float64, and so
    is 4e-5 of those of float32.
    """
    dtypes = [jnp.result_type(leaf) for leaf in jax.tree.leaves(trees)]
    eps = [float(jnp.finfo(dtype).eps) for dtype in dtypes if jnp.issubdtype(dtype, jnp.inexact)]
    return max([EPS, *eps]) ** (math.log(value) / math.log(EPS))


def assert_close(found, wanted, rtol=1e-7, atol=0.0):
    """As `numpy.testing.assert_allclose`, with tolerances for the precision of what is wanted."""
    near = tolerance(atol, wanted) if atol else 0.0
    np.testing.assert_allclose(found, wanted, rtol=tolerance(rtol, wanted), atol=near)
