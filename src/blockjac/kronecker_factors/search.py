"""The search for the uses of parameters in a program, also inside of calls and loops."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from blockjac.base import compat
from blockjac.kronecker_factors.uses import CALLS, Kind, Program, Use, read


def program_of(closed: Any, kinds: Sequence[Kind]) -> Program:
    """Find the uses of parameters in a program.

    Args:
        closed: the program.
        kinds: of its inputs: the numbers of the parameters that each depends on alone, none for a
            constant; None for one that depends on the examples.
    """
    return _Search(compat.open_jaxpr(closed), kinds).program(compat.constants(closed))


class _Search:
    """The search for uses in one program."""

    def __init__(self, jaxpr: Any, kinds: Sequence[Kind]) -> None:
        self.jaxpr = jaxpr
        self.kinds: dict[Any, Kind] = dict.fromkeys(jaxpr.constvars, frozenset())
        self.kinds.update(zip(jaxpr.invars, kinds, strict=True))
        self.makers: dict[Any, int] = {}
        self.uses: list[Use] = []
        self.inside: dict[int, Program] = {}
        self.used: set[int] = set()
        self.refused: set[int] = set()

    def program(self, consts: Sequence[Any]) -> Program:
        """Look at each equation in turn."""
        for position, equation in enumerate(self.jaxpr.eqns):
            kinds = [self._kind(atom) for atom in equation.invars]
            parameters = frozenset[int]().union(*(kind for kind in kinds if kind))
            if all(kind is not None for kind in kinds):
                leaving: Sequence[Kind] = [parameters] * len(equation.outvars)
            elif equation.primitive.name in CALLS:
                leaving = self._call(position, equation, kinds)
            elif equation.primitive.name == "scan":
                leaving = self._scan(position, equation, kinds)
            else:
                leaving = [None] * len(equation.outvars)
                if parameters:
                    self._use(position, equation, parameters)
            self.kinds.update(zip(equation.outvars, leaving, strict=True))
            self.makers.update(dict.fromkeys(equation.outvars, position))
        results = [self._kind(atom) for atom in self.jaxpr.outvars]
        return Program(
            self.jaxpr,
            consts,
            results,
            self.uses,
            self.inside,
            frozenset(self.used),
            frozenset(self.refused),
        )

    def _kind(self, atom: Any) -> Kind:
        return self.kinds[atom] if compat.is_variable(atom) else frozenset()

    def _use(self, position: int, equation: Any, parameters: frozenset[int]) -> None:
        """An equation that is a use itself."""
        avals = [variable.aval for variable in equation.outvars]
        if len(avals) != 1 or not jnp.issubdtype(avals[0].dtype, jnp.floating):
            self.refused |= parameters
            return
        recorded, computed = self._again(equation.invars)

        def apply(inputs: Mapping[Any, Any], records: Sequence[Any]) -> Any:
            """The result of the equation."""
            operands = computed(inputs, records)
            return compat.bind(equation.primitive, operands, equation.params)[0]

        self.used.add(position)
        self.uses.append(Use(parameters, compat.struct(avals[0]), recorded, apply))

    def _call(self, position: int, equation: Any, kinds: Sequence[Kind]) -> Sequence[Kind]:
        """A call of a program, whose uses are taken over."""
        inner = program_of(compat.called(equation.params), kinds)
        return self._enter(position, equation, inner, kinds, None)

    def _scan(self, position: int, equation: Any, kinds: Sequence[Kind]) -> Sequence[Kind]:
        """A loop: what it carries is constant if it never meets an example.

        A parameter that is carried, as the start of a loop or from step to step, is refused.
        """
        consts, carried = compat.scan_counts(equation.params)
        carry = list(kinds[consts : consts + carried])
        while True:
            self.refused |= {leaf for kind in carry for leaf in kind or ()}
            carry = [None if kind else kind for kind in carry]
            entering = [*kinds[:consts], *carry, *kinds[consts + carried :]]
            inner = program_of(equation.params["jaxpr"], entering)
            after = [
                left if right == left else None
                for left, right in zip(carry, inner.results[:carried], strict=True)
            ]
            if after == carry:
                return self._enter(position, equation, inner, entering, consts)
            self.refused |= {leaf for kind in inner.results[:carried] for leaf in kind or ()}
            carry = after

    def _enter(
        self,
        position: int,
        equation: Any,
        inner: Program,
        kinds: Sequence[Kind],
        consts: int | None,
    ) -> Sequence[Kind]:
        """Take over the uses of a program inside.

        Args:
            position: of the equation.
            equation: that holds the program.
            inner: the program.
            kinds: of its inputs.
            consts: for a loop, how many inputs are the same in all its steps.
        """
        self.refused |= inner.refused
        weights = [number for number, kind in enumerate(kinds) if kind]
        if inner.uses:
            self.inside[position] = inner
        for use in inner.uses:
            recorded, computed = self._again([equation.invars[number] for number in weights])
            self.uses.append(_lifted(use, inner, weights, recorded, computed, equation, consts))
        return inner.results

    def _again(
        self, atoms: Sequence[Any]
    ) -> tuple[list[Any], Callable[[Mapping[Any, Any], Sequence[Any]], list[Any]]]:
        """How to compute some operands again from inputs that depend on parameters.

        Returns:
            The variables to record, and a function of those inputs and of their values.
        """
        recorded: dict[Any, None] = {}
        needed: set[int] = set()
        pending = [atom for atom in atoms if compat.is_variable(atom)]
        while pending:
            variable = pending.pop()
            if not self.kinds[variable]:
                recorded[variable] = None
            elif variable in self.makers and self.makers[variable] not in needed:
                needed.add(self.makers[variable])
                maker = self.jaxpr.eqns[self.makers[variable]]
                pending += filter(compat.is_variable, maker.invars)
        steps = [self.jaxpr.eqns[position] for position in sorted(needed)]

        def computed(inputs: Mapping[Any, Any], records: Sequence[Any]) -> list[Any]:
            """The operands."""
            values = dict(zip(recorded, records, strict=True))
            env = {**inputs, **values}
            for equation in steps:
                operands = [read(env, atom) for atom in equation.invars]
                outs = compat.bind(equation.primitive, operands, equation.params)
                env.update(zip(equation.outvars, outs, strict=True))
                env.update(values)  # what the examples enter does not depend on the parameters here
            return [read(env, atom) for atom in atoms]

        return list(recorded), computed


def _lifted(
    use: Use,
    inner: Program,
    weights: Sequence[int],
    recorded: Sequence[Any],
    computed: Callable[[Mapping[Any, Any], Sequence[Any]], list[Any]],
    equation: Any,
    consts: int | None,
) -> Use:
    """A use of a program inside as one of the program around it.

    Args:
        use: of the program inside.
        inner: this program.
        weights: which of its inputs depend on parameters.
        recorded: what to record outside, to compute these again.
        computed: computes them.
        equation: that holds the program.
        consts: for a loop, how many inputs are the same in all steps.
    """
    count = len(use.recorded)

    def apply(inputs: Mapping[Any, Any], records: Sequence[Any]) -> Any:
        """The result of the use, of all steps of a loop."""
        own, outside = list(records[:count]), records[count:]
        values = computed(inputs, outside)
        variables = [inner.jaxpr.invars[number] for number in weights]

        def inside(values: list[Any], own: list[Any]) -> Any:
            return use.apply(dict(zip(variables, values, strict=True)), own)

        if consts is None:
            return inside(values, own)
        axes = [None if number < consts else 0 for number in weights]
        return jax.vmap(inside, (axes, 0))(values, own)

    out = use.out
    if consts is not None:
        out = jax.ShapeDtypeStruct((equation.params["length"], *out.shape), out.dtype)
    return Use(use.leaves, out, [*use.recorded, *recorded], apply)
