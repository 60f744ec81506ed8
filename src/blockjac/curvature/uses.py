"""Where the parameters of a model meet its data: the layers that KFAC approximates one by one.

A *use* is an equation with an operand that depends on parameters alone (a weight, perhaps reshaped
or sliced on the way) and another that depends on the examples: `x @ W`, `z + b`, a convolution, a
lookup in a table. A weight that is shared over the steps of a loop has one use in its body, and a
weight for each step too; the steps are then axes in front. Adding a *shift* of zeros to the result
of each use makes the derivative by the shift the gradient that arrives there, of all uses in one
sweep, and the recorded operands give the derivative of the result by the weight.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import jax
import jax.numpy as jnp

from blockjac.base import compat

Kind = frozenset[int] | None
"""The parameters that a value depends on alone, by number; None if it depends on the examples."""

CALLS = ("jit", "pjit", "closed_call", "core_call", "remat", "remat2", "checkpoint")
"""Primitives that evaluate a program inside as it is."""

REMAT = ("remat", "remat2", "checkpoint")
"""Those that evaluate it again on the way back."""


@dataclass(frozen=True, eq=False)
class Use:
    """One use of parameters.

    Attributes:
        leaves: the numbers of the parameters.
        out: the shape and dtype of the result; the steps of the loops around it in front.
        steps: how many steps these loops have, the outermost first.
        recorded: which variables of the program must be recorded to compute the result again.
        apply: the result, from the values of the program's inputs that depend on parameters, and
            from what was recorded.
    """

    leaves: frozenset[int]
    out: jax.ShapeDtypeStruct
    steps: tuple[int, ...]
    recorded: Sequence[Any]
    apply: Callable[[Mapping[Any, Any], Sequence[Any]], Any]


@dataclass(frozen=True, eq=False)
class Program:
    """A program whose uses of parameters are known.

    Attributes:
        jaxpr: the program.
        consts: the values of its constants.
        results: what kind each result is.
        uses: in the order of the equations.
        inside: by position, the equations that are entered, with their programs.
        used: by position, the equations that are uses themselves.
        refused: parameters with a use that is no equation of one real result, such as the start of
            a loop or a result of the model.
    """

    jaxpr: Any
    consts: Sequence[Any]
    results: Sequence[Kind]
    uses: Sequence[Use]
    inside: Mapping[int, Program]
    used: frozenset[int]
    refused: frozenset[int]

    def run(
        self, values: Sequence[Any], shifts: Sequence[Any]
    ) -> tuple[list[Any], list[list[Any]], list[Any]]:
        """The results, what each use has recorded, and what each use gives.

        Args:
            values: of the inputs.
            shifts: one for each use, added to its result.
        """
        env = dict(zip(self.jaxpr.constvars, self.consts, strict=True))
        env.update(zip(self.jaxpr.invars, values, strict=True))
        given = iter(shifts)
        records: list[list[Any]] = []
        shifted: list[Any] = []
        for position, equation in enumerate(self.jaxpr.eqns):
            operands = [_read(env, atom) for atom in equation.invars]
            if position in self.inside:
                inner = self.inside[position]
                own = [next(given) for _ in inner.uses]
                outs, inner_records, inner_shifted = _entered(inner, equation, operands, own)
                records += inner_records
                shifted += inner_shifted
            else:
                outs = compat.bind(equation.primitive, operands, equation.params)
                if position in self.used:
                    outs = [outs[0] + next(given)]
                    records.append([])
                    shifted.append(outs[0])
            env.update(zip(equation.outvars, outs, strict=True))
        for use, record in zip(self.uses, records, strict=True):
            record += [env[variable] for variable in use.recorded[len(record) :]]
        return [_read(env, atom) for atom in self.jaxpr.outvars], records, shifted


def _entered(
    inner: Program, equation: Any, operands: Sequence[Any], shifts: Sequence[Any]
) -> tuple[Sequence[Any], Sequence[list[Any]], Sequence[Any]]:
    """Run the program inside of an equation; a loop stacks what its steps record."""
    if equation.primitive.name in REMAT:
        params = equation.params
        options = {name: params[name] for name in ("prevent_cse", "policy") if name in params}
        return cast("Any", jax.checkpoint(inner.run, **options))(operands, shifts)
    if equation.primitive.name != "scan":
        return inner.run(operands, shifts)
    consts, carried = compat.scan_counts(equation.params)
    constants = list(operands[:consts])

    def step(carry: list[Any], slices: tuple[list[Any], list[Any]]) -> tuple[list[Any], Any]:
        own, own_shifts = slices
        outs, records, shifted = inner.run([*constants, *carry, *own], own_shifts)
        return outs[:carried], (outs[carried:], records, shifted)

    start, slices = list(operands[consts : consts + carried]), list(operands[consts + carried :])
    options = {name: equation.params[name] for name in ("length", "reverse", "unroll")}
    carry, (stacked, records, shifted) = jax.lax.scan(
        step, start, (slices, list(shifts)), **options
    )
    return [*carry, *stacked], records, shifted


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
            operands = computed(inputs, records)
            return compat.bind(equation.primitive, operands, equation.params)[0]

        self.used.add(position)
        self.uses.append(Use(parameters, compat.struct(avals[0]), (), recorded, apply))

    def _call(self, position: int, equation: Any, kinds: Sequence[Kind]) -> Sequence[Kind]:
        """A call of a program, whose uses are taken over."""
        inner = program_of(compat.called(equation.params), kinds)
        return self._enter(position, equation, inner, kinds, None)

    def _scan(self, position: int, equation: Any, kinds: Sequence[Kind]) -> Sequence[Kind]:
        """A loop: what it carries is constant if it never meets an example.

        A parameter that is carried, as the start of a loop or from step to step, has a use that is
        no equation.
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
        if not inner.uses:
            return inner.results
        # What the steps make of parameters alone cannot be computed again without the loop.
        self.refused |= {leaf for kind in inner.results for leaf in kind or ()}
        return [None if kind else kind for kind in inner.results]

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
            env = {**inputs, **dict(zip(recorded, records, strict=True))}
            for equation in steps:
                operands = [_read(env, atom) for atom in equation.invars]
                outs = compat.bind(equation.primitive, operands, equation.params)
                env.update(zip(equation.outvars, outs, strict=True))
            return [_read(env, atom) for atom in atoms]

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
        own, outside = list(records[:count]), records[count:]
        values = computed(inputs, outside)
        variables = [inner.jaxpr.invars[number] for number in weights]

        def inside(values: list[Any], own: list[Any]) -> Any:
            return use.apply(dict(zip(variables, values, strict=True)), own)

        if consts is None:
            return inside(values, own)
        axes = [None if number < consts else 0 for number in weights]
        return jax.vmap(inside, (axes, 0))(values, own)

    out, steps = use.out, use.steps
    if consts is not None:
        length = equation.params["length"]
        steps = (length, *steps)
        out = jax.ShapeDtypeStruct((length, *out.shape), out.dtype)
    return Use(use.leaves, out, steps, [*use.recorded, *recorded], apply)


def _read(env: Mapping[Any, Any], atom: Any) -> Any:
    return env[atom] if compat.is_variable(atom) else atom.val
