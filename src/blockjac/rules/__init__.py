"""Rules: the elemental Jacobians of JAX's primitives, and how to add one.

`define`, `elementwise` and `zero` add a rule for a primitive; the families register theirs when this package is imported.
"""

from blockjac.rules import broadcasting, contractions, elementwise_table, indexing, reductions, shaping
from blockjac.rules.registry import RULES, ZERO, Rule, elementwise, made, over, rule, scaling, zero

__all__ = [
    "RULES",
    "ZERO",
    "Rule",
    "broadcasting",
    "contractions",
    "elementwise",
    "elementwise_table",
    "indexing",
    "made",
    "over",
    "reductions",
    "rule",
    "scaling",
    "shaping",
    "zero",
]
