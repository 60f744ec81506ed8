"""Functions under `jit` that a program calls several times become functions of the module."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import jax.extend.core

from blockjac.base.compat import called, open_jaxpr, origin
from blockjac.explanations.source.names import Names
from blockjac.explanations.source.program import OBJECT, Def, Value

JITTED = ("jit", "pjit")


class SharedFunctions:
    """The functions that are called more than once.

    Attributes:
        names: of the module.
        definitions: in the order of their first calls; one stands after those that it calls.
        values: the function of each program, by the identity of its jaxpr.
    """

    def __init__(self, names: Names, programs: Iterable[Any]) -> None:
        self.names = names
        self.definitions: list[Def] = []
        self.values: dict[int, Value | None] = {}
        self._kept: list[Any] = []
        self._calls: Counter[int] = Counter()
        for program in programs:
            self._count(open_jaxpr(program))

    def _count(self, jaxpr: Any) -> None:
        """Count the calls in a program and in those inside of it."""
        for equation in jaxpr.eqns:
            if equation.primitive.name in JITTED:
                body = called(equation.params)
                self._calls[id(body)] += 1
                self._kept.append(body)
                if self._calls[id(body)] > 2:
                    continue  # all that it calls has been counted twice, which is all that is asked
            inside: Any = jax.extend.core.jaxprs_in_params(equation.params)
            for inner in inside:
                self._count(open_jaxpr(inner))

    def is_repeated(self, body: Any) -> bool:
        """Whether a program of the user is called more than once, and does something."""
        jaxpr = open_jaxpr(body)
        is_own = not origin(body) and not getattr(body, "consts", ())
        return is_own and len(jaxpr.eqns) > 1 and self._calls[id(body)] > 1

    def named(self, name: str) -> Value:
        """A value for a new function of the module."""
        unique = self.names.unique(name)
        return Value(None, (), OBJECT, None, name=unique, is_global=True)
