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
        recorded: which variables of the program must be recorded to compute the result again.
        apply: the result, from the values of the program's inputs that depend on parameters, and
            from what was recorded.
    """

    leaves: frozenset[int]
    out: jax.ShapeDtypeStruct
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
        refused: parameters that enter by something else than an equation of one real result, such
            as the start of a loop.
    """

    jaxpr: Any
    consts: Sequence[Any]
    results: Sequence[Kind]
    uses: Sequence[Use]
    inside: Mapping[int, Program]
    used: frozenset[int]
    refused: frozenset[int]

    def zeros(self) -> list[jax.Array]:
        """A shift of nothing for each use."""
        return [jnp.zeros(use.out.shape, use.out.dtype) for use in self.uses]

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
        remaining = iter(shifts)
        records: list[list[Any]] = []
        shifted: list[Any] = []
        for position, equation in enumerate(self.jaxpr.eqns):
            operands = [read(env, atom) for atom in equation.invars]
            if position in self.inside:
                inner = self.inside[position]
                own = [next(remaining) for _ in inner.uses]
                outs, inner_records, inner_shifted = _entered(inner, equation, operands, own)
                records += inner_records
                shifted += inner_shifted
            else:
                outs = compat.bind(equation.primitive, operands, equation.params)
                if position in self.used:
                    outs = [outs[0] + next(remaining)]
                    records.append([])
                    shifted.append(outs[0])
            env.update(zip(equation.outvars, outs, strict=True))
        for use, record in zip(self.uses, records, strict=True):
            record += [env[variable] for variable in use.recorded[len(record) :]]
        return [read(env, atom) for atom in self.jaxpr.outvars], records, shifted


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


def read(env: Mapping[Any, Any], atom: Any) -> Any:
    """The value of an operand."""
    return env[atom] if compat.is_variable(atom) else atom.val
