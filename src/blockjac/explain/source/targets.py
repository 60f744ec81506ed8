"""The two languages of modules, with the translations of each."""

from __future__ import annotations

from typing import Literal

from blockjac.explain.source.algebra import ALGEBRA
from blockjac.explain.source.builder import Target
from blockjac.explain.source.calls import CALLS
from blockjac.explain.source.choices import CHOICES
from blockjac.explain.source.contractions import CONTRACTIONS
from blockjac.explain.source.convolution import CONVOLUTION
from blockjac.explain.source.dynamic_slices import DYNAMIC_SLICES
from blockjac.explain.source.elementwise import ELEMENTWISE
from blockjac.explain.source.fallback import FALLBACK
from blockjac.explain.source.loops_jax import LOOPS_JAX
from blockjac.explain.source.loops_numpy import LOOPS_NUMPY
from blockjac.explain.source.reads import READS
from blockjac.explain.source.reductions import REDUCTIONS
from blockjac.explain.source.shapes import SHAPES
from blockjac.explain.source.sorting import SORTING
from blockjac.explain.source.windows import WINDOWS
from blockjac.explain.source.writes import WRITES

_SHARED = {
    **ELEMENTWISE,
    **CHOICES,
    **SHAPES,
    **REDUCTIONS,
    **CONTRACTIONS,
    **CALLS,
    **READS,
    **WRITES,
    **DYNAMIC_SLICES,
    **SORTING,
    **WINDOWS,
    **CONVOLUTION,
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
