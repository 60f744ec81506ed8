"""Rules: the elemental Jacobians of JAX's primitives, and how to add one.

`define` adds or replaces a rule, `check` compares one with JAX; the families register theirs when
this package is imported.
"""

from blockjac.rules import (
    broadcasting,
    collectives,
    complex_numbers,
    contractions,
    convolution,
    cumulative,
    elementwise_table,
    indexing,
    linalg,
    ragged,
    reductions,
    shaping,
    spectral,
    windows,
)
from blockjac.rules.adding import define
from blockjac.rules.checking import check
from blockjac.rules.registry import (
    PASSES,
    RULES,
    ZERO,
    Pass,
    Rule,
    elementwise,
    kept,
    labels_of,
    made,
    over,
    plain,
    rule,
    scaling,
    zero,
)

__all__ = [
    "PASSES",
    "RULES",
    "ZERO",
    "Pass",
    "Rule",
    "broadcasting",
    "check",
    "collectives",
    "complex_numbers",
    "contractions",
    "convolution",
    "cumulative",
    "define",
    "elementwise",
    "elementwise_table",
    "indexing",
    "kept",
    "labels_of",
    "linalg",
    "made",
    "over",
    "plain",
    "ragged",
    "reductions",
    "rule",
    "scaling",
    "shaping",
    "spectral",
    "windows",
    "zero",
]
