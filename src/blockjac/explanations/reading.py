"""From a traced program to formulas: an entry of a variable as an expression of its letters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from blockjac.base import compat
from blockjac.explanations import expressions as ex
from blockjac.explanations.aliases import aliases, pattern
from blockjac.explanations.constants import constant
from blockjac.explanations.evaluate import FUNCTIONS
from blockjac.explanations.expressions import Entry, Expression, Number, Place
from blockjac.explanations.names import Name
from blockjac.explanations.places import equal, fresh, substituted
from blockjac.explanations.traversal import mapped, size
from blockjac.graph.primitives import CALLS

LONGEST = 14
"""An expression of more parts than this gets a name, so that what reads it stays readable."""

SHORT = 5
"""An expression of at most this many parts is repeated where it is used."""

CONSTANT = "constants alone"
"""What computes an array of the program that no equation does, such as a mask."""


class Reader:
    """Reads the variables of one traced program.

    Attributes:
        definitions: formulas of the variables that got names of their own; an entry whose formula
            is None is computed by a primitive that has none.
    """

    def __init__(
        self,
        closed: Any,
        names: Mapping[Any, Name],
        computed: Mapping[Any, tuple[str, Sequence[Any]]] | None = None,
    ) -> None:
        """Read a program.

        Args:
            closed: the closed jaxpr.
            names: of those variables that formulas call by name.
            computed: variables that formulas call by names of their own: what computes each, with
                `{}` for the variables that follow.
        """
        jaxpr = compat.open_jaxpr(closed)
        self.names: dict[Any, Name] = dict(names)
        self.producers = {variable: eqn for eqn in jaxpr.eqns for variable in eqn.outvars}
        self.constants = dict(zip(jaxpr.constvars, compat.constants(closed), strict=True))
        self.uses: dict[Any, int] = {}
        for equation in jaxpr.eqns:
            for atom in filter(compat.is_variable, equation.invars):
                self.uses[atom] = self.uses.get(atom, 0) + 1
        for atom in filter(compat.is_variable, jaxpr.outvars):
            self.uses[atom] = self.uses.get(atom, 0) + 1
        self.definitions: dict[Name, ex.Formula | None] = {}
        self.variables: dict[Name, Any] = {}
        self.words: dict[Name, tuple[str, tuple[Name, ...]]] = {}
        self.computed_by = dict(computed or {})
        self.aliases = dict(
            pair for variable in names for pair in aliases(variable, self.producers, names)
        )

    def entry(self, atom: Any, places: Sequence[Place]) -> Expression:
        """One entry of a variable or a literal.

        Args:
            atom: of the program.
            places: one for each axis.
        """
        if not compat.is_variable(atom):
            return _number(atom.val, places)
        if atom not in self.names and atom in self.aliases:
            named, moved = self.aliases[atom]
            return self.entry(named, moved(places))
        if atom not in self.names:
            fixed = self._constant(atom, places)
            if fixed is not None:
                return fixed
            formula = self._formula(atom)
            body = None if formula is None else formula.body
            if body is not None and (
                size(body) <= SHORT or (self.uses.get(atom, 0) <= 1 and size(body) <= LONGEST)
            ):
                letters = [place.letter for place in formula.letters]  # pyright: ignore[reportOptionalMemberAccess]
                pairs = zip(letters, places, strict=True)
                return substituted(body, {own: at for own, at in pairs if own is not None})
            self._name(atom, formula)
        return Entry(self.names[atom], tuple(places), tuple(atom.aval.shape))

    def named_entry(self, atom: Any, places: Sequence[Place]) -> Expression:
        """One entry of a variable by its name, however short its formula is."""
        if compat.is_variable(atom) and atom not in self.names and self._constant(atom) is None:
            self._name(atom, self._formula(atom))
        return self.entry(atom, places)

    def definition(self, atom: Any) -> ex.Formula | None:
        """The formula of a named variable, by what computes it; None if it has none.

        It has none either where only the moving of entries can be read: `x[i] = x[i]`.
        """
        formula = self._formula(atom)
        if formula is None or not isinstance(formula.body, Entry):
            return formula
        return None if formula.body.name == self.names.get(atom) else formula

    def _constant(self, atom: Any, places: Sequence[Place] = ()) -> Expression | None:
        """An entry of a constant: its number if all are the same, a delta if it is an identity."""
        if atom not in self.constants:
            return None
        array = np.asarray(self.constants[atom])
        if array.size and (array == array.flat[0]).all():
            return constant(array.flat[0].item(), array.dtype)
        if places and array.tolist() == [1, -1]:
            return ex.total([ex.ONE, ex.product([Number(-2), equal(places[0], Place(1))])])
        return pattern(array, places) if len(places) == 2 else None

    def _name(self, atom: Any, formula: ex.Formula | None) -> None:
        """Give a variable a name of its own."""
        if atom in self.computed_by:
            word, sources = self.computed_by[atom]
            of = [self._named(source) for source in sources]
            same = [name for name, own in self.words.items() if word and own == (word, tuple(of))]
            if same:  # the same array computed twice
                self.names[atom] = same[0]
                return
        else:
            producer, of = self.producers.get(atom), []
            word = CONSTANT if producer is None else producer.primitive.name
        self.names[atom] = name = self.new_name(formula, word, of)
        self.variables[name] = atom

    def _named(self, atom: Any) -> Name:
        """The name of a variable or a literal that words call by name."""
        if not compat.is_variable(atom):
            return Name("…")
        if atom not in self.names:
            self._name(atom, self._formula(atom))
        return self.names[atom]

    def new_name(self, formula: ex.Formula | None, word: str, of: Sequence[Name] = ()) -> Name:
        """A name for an array that formulas read.

        Args:
            formula: of its entries; None if it has none.
            word: for what computes it, with `{}` for each of the next.
            of: names of what it is computed from.
        """
        name = Name(f"#{len(self.definitions)}")
        self.definitions[name] = None if formula is None else replace(formula, name=name)
        self.words[name] = word, tuple(of)
        return name

    def _formula(self, atom: Any) -> ex.Formula | None:
        """The formula of a variable over fresh letters; None if what computes it has none."""
        producer = self.producers.get(atom)
        if producer is None or atom in self.computed_by:
            return None
        letters = [fresh(size) for size in atom.aval.shape]
        places = [Place.of(letter) for letter in letters]
        body = self.computed(producer, producer.outvars.index(atom), places)
        if body is None:
            return None
        return ex.Formula(Name("#"), tuple(places), body, tuple(atom.aval.shape))

    def computed(self, equation: Any, result: int, places: Sequence[Place]) -> Expression | None:
        """One entry of an equation's result by its operands; None if no formula is known."""
        name = equation.primitive.name
        if name in CALLS:
            return self._called(equation, result, places)
        rule = READ.get(name)
        if rule is not None:
            return rule(self, equation, places)
        function = ELEMENTWISE.get(name)
        if function is None:
            return None
        return function(*(self._elementwise(atom, places) for atom in equation.invars))

    def _elementwise(self, atom: Any, places: Sequence[Place]) -> Expression:
        """The entry of an operand, which is repeated along its axes of size 1."""
        shape = atom.aval.shape
        pairs = zip(places, shape, strict=True) if shape else ()
        return self.entry(atom, [Place() if size == 1 else place for place, size in pairs])

    def _called(self, equation: Any, result: int, places: Sequence[Place]) -> Expression | None:
        """One entry of a call's result: the called program read with its own operands."""
        closed = compat.called(equation.params)
        inner = Reader(closed, {})
        jaxpr = compat.open_jaxpr(closed)
        named: dict[Any, Name] = {}
        for variable, atom in zip(jaxpr.invars, equation.invars, strict=True):
            named[variable] = Name(f"#operand{len(named)}")
            del atom
        inner.names.update(named)
        body = inner.entry(jaxpr.outvars[result], places)
        if inner.definitions:
            return None
        operands = dict(zip(named.values(), equation.invars, strict=True))
        return self._replaced(body, operands)

    def _replaced(self, expression: Expression, operands: Mapping[Any, Any]) -> Expression:
        """The expression with entries of a call's parameters replaced by those of its operands."""

        def changed(part: Expression) -> Expression:
            """An expression with its own entries replaced."""
            if isinstance(part, Entry) and part.name in operands:
                return self.entry(operands[part.name], part.places)
            return mapped(part, changed)

        return changed(expression)


COPIES = (
    "copy",
    "copy_p",
    "name",
    "stop_gradient",
    "optimization_barrier",
    "reduce_precision",
    "sharding_constraint",
)
"""Primitives whose result is their operand."""


def _number(value: Any, places: Sequence[Place]) -> Expression:
    """The entry of a literal, whose entries are all the same."""
    del places
    array = np.asarray(value)
    return constant(array.flat[0].item(), array.dtype)


def _sum(a: Expression, b: Expression) -> Expression:
    return ex.total([a, b])


def _product(a: Expression, b: Expression) -> Expression:
    return ex.product([a, b])


def _quotient(a: Expression, b: Expression) -> Expression:
    return ex.product([a, ex.Quotient(ex.ONE, b)])


def _negative(a: Expression) -> Expression:
    return ex.product([Number(-1), a])


def _square(a: Expression) -> Expression:
    return ex.Power(a, Number(2))


def _inverse_root(a: Expression) -> Expression:
    return ex.Quotient(ex.ONE, ex.Applied("sqrt", (a,)))


def _one_minus_square(a: Expression) -> Expression:
    return _sub(ex.ONE, _square(a))


def _same(a: Expression) -> Expression:
    return a


def _binary(function: str) -> Callable[..., Expression]:
    return lambda *operands: ex.Applied(function, operands)


def _sub(a: Expression, b: Expression) -> Expression:
    return ex.total([a, ex.product([Number(-1), b])])


ELEMENTWISE: dict[str, Callable[..., Expression]] = {
    **{name: _binary(name) for name in FUNCTIONS},
    "add": _sum,
    "add_any": _sum,
    "sub": _sub,
    "mul": _product,
    "div": _quotient,
    "neg": _negative,
    "pow": ex.Power,
    "square": _square,
    "rsqrt": _inverse_root,
    "one_minus_square": _one_minus_square,
    **dict.fromkeys(COPIES, _same),
}
"""Primitives that act on entries one by one."""

READ: dict[str, Callable[[Reader, Any, Sequence[Place]], Expression | None]] = {}
"""Primitives that move entries or sum them, with how an entry of the result is read."""
