"""`explain`: the chain rule of a function, as text, mathematics and pages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import jax
import numpy as np

from blockjac.algebra.losses import keeping_lines
from blockjac.engine.arguments import ArgNums, check_argnums, check_callable, traced_call
from blockjac.engine.call import Call
from blockjac.engine.computations import Jacobian
from blockjac.engine.run import run
from blockjac.explanations import expressions as ex
from blockjac.explanations.chain_rule import ChainRule, Use
from blockjac.explanations.document import MOST_SHOWN, Document
from blockjac.explanations.equations import Equations
from blockjac.explanations.formulas import Elemental, Formulas
from blockjac.explanations.found import checked, simplifications
from blockjac.explanations.html import sections
from blockjac.explanations.layout import Claim, Equation
from blockjac.explanations.names import Derivative, Name
from blockjac.explanations.numbers import Numbers, random_arguments
from blockjac.explanations.page.page import dot_of, page_of, svg_of
from blockjac.explanations.page.parts import Parts
from blockjac.explanations.program import Program, program_of
from blockjac.explanations.sections import document_of
from blockjac.explanations.written import (
    article,
    latex,
    markdown,
    terminal_width,
    text,
)
from blockjac.graph.trace import named_as
from blockjac.planning import Plan
from blockjac.transforms.plans import plan
from blockjac.transforms.traced_once import Orders


def explain(
    fun: Callable[..., Any], argnums: ArgNums = 0, *, order: Orders = "auto"
) -> Callable[..., Explanation]:
    """The chain rule of a function: its steps, their Jacobians, and how these are contracted.

    Args:
        fun: any JAX function of real arrays and trees of them. Functions under `jax.jit` and
            `blockjac.step` are steps; what lies between them is explained by primitives.
        argnums: which positional arguments to differentiate.
        order: of elimination, as in `jacobian`, for the costs that are shown.

    Returns:
        A function of the same arguments, arrays or `jax.ShapeDtypeStruct`s in their place, that
        gives an `Explanation`. Nothing is computed but what checks a formula.

    Raises:
        TypeError: for integer and complex inputs, and for integer results.
        ValueError: for `argnums` that do not fit the arguments.

    Examples:
        >>> import jax.numpy as jnp
        >>> import blockjac
        >>> def loss(w, X, y):
        ...     return jnp.sum((X @ w - y) ** 2)
        >>> explanation = blockjac.explain(loss)(jnp.ones(3), jnp.ones((5, 3)), jnp.ones(5))
        >>> print(explanation.chain_rule)
        D_w loss = D_v₃ sum ⋆ D_v₂ power ⋆ D_v₁ sub ⋆ D_w dot
    """
    check_callable(fun, "explain")
    check_argnums(argnums)

    def explanation_of(*args: Any, **kwargs: Any) -> Explanation:
        options = argnums, args, kwargs
        with keeping_lines():
            call = traced_call("explain", fun, *options, abstract=True, keeps_calls=True)
        call.check_real()
        return Explanation(
            program_of(call, fun),
            lambda: plan(fun, argnums, order=order)(*args, **kwargs),
            lambda: traced_call("explain", fun, *options, abstract=True),
        )

    return named_as(fun, explanation_of)


@dataclass(eq=False)
class Explanation:
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

    @cached_property
    def plan(self) -> Plan:
        """The order of elimination, with its costs beside those of other orders."""
        return self._plan()

    @cached_property
    def rules(self) -> tuple[ChainRule, ...]:
        """The chain rule of each result that depends on a differentiated argument."""
        return tuple(
            ChainRule(self.program, result)
            for result in self.program.results
            if result is not None and result.number in self.program.active.vertices
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
        uses: dict[tuple[Any, int, int], tuple[ChainRule, Use]] = {}
        for rule in self.rules:
            for own in rule.uses.values():
                for use in own:
                    uses.setdefault((use.step, use.tail, use.head), (rule, use))
        ordered = sorted(uses.values(), key=lambda pair: (pair[1].head, pair[1].tail))
        return tuple(self._formulas.elemental(use, rule.elemental(use)) for rule, use in ordered)

    @cached_property
    def formulas(self) -> Equations:
        """Backpropagation with indices: each shared product, then the answer."""
        equations: list[Equation] = []
        for rule in self.rules:
            for number, name in self._adjoints(rule):
                formula, definitions = self._formulas.adjoint(rule, number, name)
                known = {own for own in equations if isinstance(own, ex.Formula)}
                equations += [
                    own
                    for _, own in definitions
                    if isinstance(own, ex.Formula) and own not in known
                ]
                equations.append(formula)
        return Equations(tuple(equations))

    def _adjoints(self, rule: ChainRule) -> list[tuple[int, Name | Derivative]]:
        """The variables whose Jacobians are shown, with the names of these."""
        adjoints: list[tuple[int, Name | Derivative]] = [
            (number, rule.adjoint(number)) for number in rule.intermediates
        ]
        return adjoints + [
            (variable.number, rule.derivative(variable.number))
            for variable in self.program.independents
        ]

    @cached_property
    def _formulas(self) -> Formulas:
        return Formulas(self.program)

    # What is checked

    @cached_property
    def arguments(self) -> list[Any]:
        """The point at which formulas are checked: as given, or random where shapes were given."""
        call = self._call()
        if not any(isinstance(own, jax.ShapeDtypeStruct) for own in call.arguments):
            return list(call.arguments)
        for positive in (False, True):
            drawn = random_arguments(self.program, seed=0, positive=positive)
            if all(np.isfinite(own).all() for own in self._exact(drawn)[0]):
                break
        return drawn

    def _exact(self, arguments: Sequence[Any]) -> tuple[list[np.ndarray], list[list[np.ndarray]]]:
        """The results and the Jacobian at a point, by the library's own elimination."""
        call = self._call()
        computation = Jacobian(call.count, call.smooth, "auto", dense=True, values=True)
        _, (values, rows) = run(computation, call.graph, arguments)
        return [np.asarray(own) for own in values], [
            [np.asarray(own) for own in row] for row in rows
        ]

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
        return checked(self.program, self.rules, self.numbers, self._exact)

    @cached_property
    def simplifications(self) -> tuple[Claim, ...]:
        """What shared products are, found by their numbers: `q = (Q - Y) / N`.

        Each holds at `arguments` and at two points near them, and is not proved.
        """
        return simplifications(self.program, self.rules, self.numbers, self._formulas)

    # What is written

    def document(self, most: int | None = MOST_SHOWN) -> Document:
        """The sections of the whole explanation.

        Args:
            most: how many lines of a section are shown; None for all.
        """
        return document_of(self, most)

    def text(self, width: int | None = None, most: int | None = MOST_SHOWN) -> str:
        """The explanation for a terminal.

        Args:
            width: of a line, in characters; by default the terminal's.
            most: as in `document`.
        """
        return text(self.document(most), width or terminal_width())

    def __str__(self) -> str:
        return self.text()

    def __repr__(self) -> str:
        return str(self)

    def markdown(self, most: int | None = MOST_SHOWN) -> str:
        """The explanation as Markdown, with formulas in LaTeX between dollars."""
        return markdown(self.document(most))

    def latex(self, most: int | None = MOST_SHOWN, whole: bool = False) -> str:
        r"""The explanation as LaTeX, for an article with `amsmath` and `amssymb`.

        Args:
            most: as in `document`.
            whole: whether to give a whole file rather than the body of one.
        """
        body = latex(self.document(most))
        return article(body) if whole else body

    def html(self, most: int | None = MOST_SHOWN) -> str:
        """The explanation as one interactive page, a self-contained HTML file with MathML.

        The graph to click, the real blocks at `arguments`, and elimination played in any order.

        Args:
            most: as in `document`; of more steps, formulas are left out.
        """
        return page_of(self._parts, most)

    def dot(self) -> str:
        """The graph of the steps as text for Graphviz."""
        return dot_of(self._parts)

    def svg(self) -> str:
        """The graph of the steps as a picture, light or dark as its surroundings are."""
        return svg_of(self._parts)

    @cached_property
    def _parts(self) -> Parts:
        return Parts(self)

    def _repr_html_(self) -> str:
        return sections(self.document())

    def _repr_latex_(self) -> str:
        return self.latex()

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return {
            "text/plain": str(self),
            "text/html": self._repr_html_(),
            "text/markdown": self.markdown(),
        }
