"""The two languages of modules, with the translations of each."""

from __future__ import annotations

from typing import Literal

from blockjac.explanations.source.algebra import ALGEBRA
from blockjac.explanations.source.builder import Target
from blockjac.explanations.source.calls import CALLS
from blockjac.explanations.source.choices import CHOICES
from blockjac.explanations.source.contractions import CONTRACTIONS
from blockjac.explanations.source.convolution import CONVOLUTION
from blockjac.explanations.source.dynamic_slices import DYNAMIC_SLICES
from blockjac.explanations.source.elementwise import ELEMENTWISE
from blockjac.explanations.source.fallback import FALLBACK
from blockjac.explanations.source.loops_jax import LOOPS_JAX
from blockjac.explanations.source.loops_numpy import LOOPS_NUMPY
from blockjac.explanations.source.reads import READS
from blockjac.explanations.source.reductions import REDUCTIONS
from blockjac.explanations.source.shapes import SHAPES
from blockjac.explanations.source.sorting import SORTING
from blockjac.explanations.source.windows import WINDOWS
from blockjac.explanations.source.writes import WRITES

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
