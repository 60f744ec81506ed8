"""The CUTEst problems that are written in JAX: found, made small, and judged one by one."""

from cutest.collection import problem_named, problem_names, reduced
from cutest.judged import Row, rows_of

__all__ = ["Row", "problem_named", "problem_names", "reduced", "rows_of"]
