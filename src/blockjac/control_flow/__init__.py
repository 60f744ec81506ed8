"""Jacobians of equations that hold programs of their own: loops, branches, recomputation, solves.

Each is differentiated by recursion: the program inside is a graph, and its own elimination runs
inside the loop or branch. Importing this package registers them as passes.
"""

from blockjac.control_flow import (
    checkpoint,
    cond,
    custom_jvp,
    custom_vjp,
    linear_solve,
    scan,
    while_loop,
)
from blockjac.graph.primitives import check_complete
from blockjac.rules import OPERATOR_RULES

__all__ = ["checkpoint", "cond", "custom_jvp", "custom_vjp", "linear_solve", "scan", "while_loop"]

check_complete(OPERATOR_RULES)
