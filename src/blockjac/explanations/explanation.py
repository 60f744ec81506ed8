"""Explanation: the chain rule of a function, as text, mathematics, pages and code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import jax
import numpy as np

from blockjac.engine.call import Call
from blockjac.engine.computations import Jacobian, Values
from blockjac.engine.run import run
from blockjac.errors import InvalidOptionError
from blockjac.explanations import expressions as ex
from blockjac.explanations.chain_rule import ChainRule, uses_of
from blockjac.explanations.code import Module
from blockjac.explanations.document import MOST_SHOWN, Document
from blockjac.explanations.equations import Equations
from blockjac.explanations.forms import Forms
from blockjac.explanations.formulas import Elemental, Formulas
from blockjac.explanations.found import checked, simplifications
from blockjac.explanations.layout import Claim
from blockjac.explanations.loops import Inside, inside_of, loops_of
from blockjac.explanations.numbers import Numbers, can_be_run, on_host, random_arguments
from blockjac.explanations.page.page import PageParts
from blockjac.explanations.program import Program, Step
from blockjac.explanations.sections import Parts, document_of
from blockjac.explanations.source import TargetName, TracedFunction, module_source
from blockjac.explanations.styles.text import TEXT
from blockjac.graph.linearity import is_inexact
from blockjac.planning import Plan


@dataclass(eq=False)
class Explanation(Forms):
    """The chain rule of a function at given shapes.

    Print it, or take a part: the chain rule in symbols, backpropagation step by step, formulas with
    indices, the order with its costs.

    Attributes:
        program: the function as named steps.

    Examples:
        >>> import jax.numpy as jnp
        >>> import blockjac
        >>> explanation = blockjac.explain(lambda x: jnp.sum(jnp.sin(x) ** 2))(jnp.ones(4))
        >>> print(explanation.formulas)
        (D_x f)[i] = 2 v₁[i] cos(x[i])
        >>> explanation.checked
        True
    """

    program: Program
    _plan: Callable[[], Plan] = field(repr=False)
    _call: Callable[[], Call] = field(repr=False)
    _explain: Callable[[Inside], Explanation] = field(repr=False)
    _functions: Callable[[Module], list[TracedFunction]] = field(repr=False)

    __repr__ = Forms.__repr__  # a prompt shows the text, not the fields

    @cached_property
    def _inlined(self) -> Call:
        """The call traced with its own calls inlined, as derivatives are computed."""
        return self._call()

    @cached_property
    def plan(self) -> Plan:
        """The order of elimination, with its costs beside those of other orders."""
        return self._plan()

    @cached_property
    def rules(self) -> tuple[ChainRule, ...]:
        """The chain rule of each result; of one that depends on no argument it says 0."""
        return tuple(
            ChainRule(self.program, result)
            for result in dict.fromkeys(self.program.results)
            if result is not None and is_inexact(result)
        )

    @property
    def chain_rule(self) -> Equations:
        """Each block as a contraction of elemental Jacobians, sums over paths as sums."""
        return Equations(tuple(rule for own in self.rules for rule in own.written_out()))

    @property
    def backpropagation(self) -> Equations:
        """The same, with what several blocks share named and computed once."""
        return Equations(tuple(rule for own in self.rules for rule in own.backpropagation()))

    @cached_property
    def steps(self) -> tuple[Elemental, ...]:
        """The elemental Jacobian of every step by everything that it reads."""
        return tuple(
            self._formulas.elemental(use, rule.elemental(use)) for rule, use in uses_of(self.rules)
        )

    def value(self, step: Step) -> ex.Formula | None:
        """The formula of what a primitive step computes; None for others and where it has none."""
        return self._formulas.value(step)

    def inside(self, name: str) -> Explanation:
        """The explanation of a step as a function of its own.

        Args:
            name: of the step, as `blockjac.step`, or the function under `jax.jit`, has it; a step
                that occurs several times has a number behind it, as in formulas.

        Raises:
            InvalidOptionError: if no step of this name has anything inside; lists those that have.

        Examples:
            >>> import jax.numpy as jnp
            >>> import blockjac
            >>> square = blockjac.step("square")(lambda u: u * u)
            >>> explanation = blockjac.explain(lambda x: jnp.sum(square(x)))(jnp.ones(3))
            >>> print(explanation.inside("square").formulas)
            (D_u square)[i,i'] = 2 δ[i,i'] u[i]
        """
        steps = {
            own: inside
            for step in self.program.active_steps
            for inside in [inside_of(self.program, step)]
            for own in (step.word, str(step.name))
            if inside is not None
        }
        if name not in steps:
            known = ", ".join(sorted(steps)) or "none: all are primitives"
            raise InvalidOptionError(
                f"no step called {name!r} has steps inside; those that have: {known}"
            )
        return self._explain(steps[name])

    @cached_property
    def formulas(self) -> Equations:
        """Backpropagation with indices: each shared product, then the answer."""
        return Equations(
            tuple(own for rule in self.rules for own in self._formulas.backpropagation(rule))
        )

    @cached_property
    def _formulas(self) -> Formulas:
        return Formulas(self.program)

    # What is checked

    @cached_property
    def arguments(self) -> list[Any]:
        """The point at which formulas are checked: as given, or random where shapes were given."""
        call = self._inlined
        if not any(isinstance(own, jax.ShapeDtypeStruct) for own in call.arguments):
            return list(call.arguments)
        for positive in (False, True):
            drawn = random_arguments(self.program, seed=0, positive=positive)
            values, _ = run(Values(call.count), call.graph, drawn)
            if all(np.isfinite(np.asarray(own)).all() for own in values[: call.count]):
                break
        return drawn

    def _exact(self, arguments: Sequence[Any]) -> tuple[list[np.ndarray], list[list[np.ndarray]]]:
        """The results and the Jacobian at a point, by the library's own elimination."""
        call = self._inlined
        computation = Jacobian(call.count, call.smooth, "auto", dense=True, values=True)
        _, (values, rows) = run(computation, call.graph, arguments)
        return list(map(on_host, values)), [list(map(on_host, row)) for row in rows]

    @cached_property
    def numbers(self) -> Numbers:
        """The arrays of the program at `arguments`, by the names that formulas call them."""
        return Numbers(self.program, self._formulas, self.arguments)

    @cached_property
    def checked(self) -> bool | None:
        """Whether the formulas give the Jacobian at `arguments`; None where that is too large.

        Every formula is evaluated from the ones before it, and the last ones are compared with the
        Jacobian that the library computes without them.
        """
        if not can_be_run(self.program):
            return None
        return checked(self.program, self.rules, self.numbers, self._exact)

    @cached_property
    def simplifications(self) -> tuple[Claim, ...]:
        """What shared products are, found by their numbers: `q = (Q - Y) / N`.

        Each holds at `arguments` and at two points near them, and is not proved.
        """
        if not can_be_run(self.program):
            return ()
        return simplifications(self.program, self.rules, self.numbers, self._formulas)

    # What is written

    def code(self, target: TargetName = "numpy") -> str:
        """A module with the function and its derivative, which runs without this library.

        Its names are those of the explanation, and its comments carry the formulas and shapes.
        Loops stay loops and branches branches. Arrays that the function captures are parameters
        after `*`, or stand in the module where they have no name. Where NumPy and SciPy have no
        counterpart of a primitive, and none is written into the module, the statement calls JAX
        and says so.

        Args:
            target: "numpy" or "jax".

        Returns:
            Formatted source: `f` and `D_f`, whose results are those of `fun` and of
            `blockjac.jacobian(fun, argnums)`.

        Raises:
            InvalidOptionError: for another target.
            SourceError: if some primitive cannot be written; names it.

        Examples:
            >>> import jax.numpy as jnp
            >>> import blockjac
            >>> def energy(x):
            ...     return jnp.sum(x**3)
            >>> print(blockjac.explain(energy)(jnp.ones(3)).code().splitlines()[-2].strip())
            D_x = 3 * x**2
        """
        module = Module(
            self.program, self._formulas, self.rules, lambda: self._inlined.graph, self.plan.order
        )
        title = f"The function {TEXT.name(self.program.function)} and its derivative."
        return module_source(self._functions(module), target, title)

    def document(self, most: int | None = MOST_SHOWN) -> Document:
        """The sections of the whole explanation.

        Args:
            most: how many lines of a section are shown; None for all.
        """
        return document_of(self._parts, most)

    @property
    def _parts(self) -> Parts:
        """What the document is made of."""
        return Parts(
            program=self.program,
            value=self.value,
            chain_rule=lambda: self.chain_rule,
            steps=lambda: self.steps,
            formulas=lambda: self.formulas,
            simplifications=lambda: self.simplifications,
            plan=lambda: self.plan,
            rules=lambda: self.rules,
            checked=lambda: self.checked,
            loops=lambda: loops_of(self.program),
            explain=lambda loop: self._explain(loop)._parts,
        )

    def _page_parts(self) -> PageParts:
        """The parts that a page is made of, each when it is asked for."""
        return PageParts(
            self.program,
            lambda: self.rules,
            lambda: self.numbers,
            lambda: self.steps,
            lambda: self.formulas,
            self.document,
        )
