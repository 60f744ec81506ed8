"""Rules: the elemental Jacobians of JAX's primitives, and how to add one.

`define` adds or replaces a rule, and `check` compares one with JAX. Each family of primitives has a
file of its own, which registers its rules when this package is imported.
"""

from typing import TYPE_CHECKING, Any

from blockjac.rules import (
    broadcast,
    collectives,
    complex_numbers,
    convolution,
    cumulative,
    dot_general,
    dynamic_slices,
    eigh,
    elementwise_table,
    gather_scatter,
    linalg,
    ragged,
    reductions,
    reshape,
    sorting,
    spectral,
    svd,
    windows,
)
from blockjac.rules.building import labels_of, made, over, plain, scaling
from blockjac.rules.define import define
from blockjac.rules.registry import (
    OPERATOR_RULES,
    RULES,
    ZERO,
    OperatorRule,
    Rule,
    complete,
    elementwise,
    kept,
    rule,
    zero,
)

if TYPE_CHECKING:
    from blockjac.checking.rules import check

__all__ = [
    "OPERATOR_RULES",
    "PASSES",
    "RULES",
    "ZERO",
    "OperatorRule",
    "Pass",
    "Rule",
    "broadcast",
    "check",
    "collectives",
    "complex_numbers",
    "convolution",
    "cumulative",
    "define",
    "dot_general",
    "dynamic_slices",
    "eigh",
    "elementwise",
    "elementwise_table",
    "gather_scatter",
    "kept",
    "labels_of",
    "linalg",
    "made",
    "over",
    "plain",
    "ragged",
    "reductions",
    "reshape",
    "rule",
    "scaling",
    "sorting",
    "spectral",
    "svd",
    "windows",
    "zero",
]

complete()

PASSES, Pass = OPERATOR_RULES, OperatorRule
"""The names that these had before version 0.2."""


def __getattr__(name: str) -> Any:
    if name != "check":
        raise AttributeError(f"module 'blockjac.rules' has no attribute '{name}'")
    from blockjac.checking.rules import check  # it differentiates, so it depends on the rules

    return check
