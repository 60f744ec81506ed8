"""Jacobians of equations that hold programs of their own: loops, branches, recomputation, solves.

Each is differentiated by recursion: the program inside is a graph, and its own elimination runs
inside the loop or branch. Importing this package registers them as passes.
"""

from blockjac.nested import cond, custom_jvp, custom_vjp, recompute, scan, solve, while_loop

__all__ = ["cond", "custom_jvp", "custom_vjp", "recompute", "scan", "solve", "while_loop"]
