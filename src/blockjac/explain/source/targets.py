"""The two languages of modules, with the translations of each."""

from __future__ import annotations

from typing import Literal

from blockjac.explain.source.algebra import ALGEBRA
from blockjac.explain.source.builder import Target
from blockjac.explain.source.calls import CALLS
from blockjac.explain.source.contractions import CONTRACTIONS
from blockjac.explain.source.elementwise import ELEMENTWISE
from blockjac.explain.source.fallback import FALLBACK
from blockjac.explain.source.indexing import INDEXING
from blockjac.explain.source.loops_jax import LOOPS_JAX
from blockjac.explain.source.loops_numpy import LOOPS_NUMPY
from blockjac.explain.source.reductions import REDUCTIONS
from blockjac.explain.source.shapes import SHAPES
from blockjac.explain.source.windows import WINDOWS

_SHARED = {
    **ELEMENTWISE,
    **SHAPES,
    **REDUCTIONS,
    **CONTRACTIONS,
    **CALLS,
    **INDEXING,
    **WINDOWS,
    **ALGEBRA,
    **FALLBACK,
}

_TARGETS = {
    "numpy": Target("numpy", "np", {**_SHARED, **LOOPS_NUMPY}),
    "jax": Target("jax", "jnp", {**_SHARED, **LOOPS_JAX}),
}


def target_of(name: Literal["numpy", "jax"]) -> Target:
    """The target of a name."""
    return _TARGETS[name]
