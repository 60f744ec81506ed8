"""The numbers behind an explanation: its formulas evaluated at a point, to check them there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from blockjac.base import compat
from blockjac.elimination.active_graph import ActiveGraph
from blockjac.elimination.eliminate import eliminate
from blockjac.elimination.evaluate import evaluate
from blockjac.elimination.linearize import linearize_to_results
from blockjac.explanations import expressions as ex
from blockjac.explanations.chain_rule import ChainRule, Use
from blockjac.explanations.evaluate import evaluated
from blockjac.explanations.formulas import Formulas
from blockjac.explanations.names import Derivative, Name
from blockjac.explanations.places import letters_of
from blockjac.explanations.program import Program, Step
from blockjac.graph.trace import trace
from blockjac.planning import choose_order

MOST_VALUES = 30_000_000
"""A program whose values have more entries than this in all is explained, and not run."""

MOST_ENTRIES, MOST_PRODUCTS = 4_000_000, 2_000_000_000
"""A check that would store or multiply more numbers than this is left out, and said to be."""


@dataclass(eq=False)
class Numbers:
    """The arrays of a program at a point, by the names that formulas call them.

    Attributes:
        program: the program.
        formulas: its formulas.
        arguments: the point.
        arrays: those known so far.
    """

    program: Program
    formulas: Formulas
    arguments: Sequence[Any]
    arrays: dict[Name | Derivative, np.ndarray] = field(default_factory=dict)
    _inside_steps: dict[Step, dict[Any, Any]] = field(default_factory=dict, repr=False)

    @cached_property
    def values(self) -> list[Any]:
        """All values of the program."""
        point = evaluate(self.program.graph, self.arguments, self.program.graph.captured)
        for number, variable in self.program.variables.items():
            self.arrays[variable.name] = on_host(point.values[number])
        return point.values

    @property
    def largest(self) -> float:
        """The largest finite number of all arrays known so far."""
        real = [own for own in self.arrays.values() if own.dtype.kind in "fc"]
        return float(
            max((np.max(np.abs(own[np.isfinite(own)]), initial=0) for own in real), default=0)
        )

    def adjoint(self, rule: ChainRule, number: int) -> np.ndarray | None:
        """The Jacobian of a result by a variable, by formulas; None where that is too large.

        Args:
            rule: of the result.
            number: of the variable.
        """
        _ = self.values
        name = rule.name(number)
        if name in self.arrays:
            return self.arrays[name]
        for use in rule.uses.get(number, ()):
            if use.head != rule.result.number and self.adjoint(rule, use.head) is None:
                return None
            if not self._has_local(use, rule.elemental(use)):
                return None
        formula, _ = self.formulas.adjoint(rule, number)
        if not is_small(formula):
            return None
        self._read_helpers()
        self.arrays[name] = evaluated(formula, self.arrays)
        return self.arrays[name]

    def _read_helpers(self) -> None:
        """Compute the helpers that formulas have been given names for."""
        for (step, own), name in self.formulas.helpers.items():
            if name in self.arrays:
                continue
            jacobian = self.formulas.step(step)
            if own in jacobian.computed:
                value, compute = jacobian.computed[own]
                self.arrays[name] = compute(self.values[value])
            else:
                environment = self._inside(step)
                self.arrays[name] = on_host(environment[jacobian.reader.variables[own]])

    def _inside(self, step: Step) -> dict[Any, Any]:
        """All variables of a step's traced program, computed once."""
        if step in self._inside_steps:
            return self._inside_steps[step]
        edges = self.formulas.step(step).edges
        jaxpr = compat.open_jaxpr(edges.closed)
        environment = dict(zip(jaxpr.constvars, compat.constants(edges.closed), strict=True))
        arguments = [self.values[value] for value in edges.operands]
        environment |= dict(zip(jaxpr.invars, arguments, strict=True))
        for equation in jaxpr.eqns:
            operands = [
                environment[atom] if compat.is_variable(atom) else atom.val
                for atom in equation.invars
            ]
            results = compat.bind(equation.primitive, operands, equation.params)
            environment |= dict(zip(equation.outvars, results, strict=True))
        self._inside_steps[step] = environment
        return environment

    def _has_local(self, use: Use, name: Derivative) -> bool:
        """Whether an elemental Jacobian is known: by its formula, or computed here as an array."""
        if self.formulas.step(use.step).terms[use.head, use.tail] is not None:
            return True
        if name not in self.arrays:
            variables = self.program.variables
            entries = math.prod((*variables[use.head].axes, *variables[use.tail].axes))
            if entries > MOST_ENTRIES:
                return False
            self.arrays[name] = self.local(use)
        return True

    def local(self, use: Use) -> np.ndarray:
        """An elemental Jacobian, by the library's own elimination."""
        operands = use.step.operands
        function = use.step.function([use.head])
        arguments = [compat.jax_array(self.values[value]) for value in operands]
        position = operands.index(use.tail)
        graph = trace(function, list(map(jax.typeof, arguments)), [position])
        (leaf,) = graph.independents
        active = ActiveGraph.of(graph, graph.outputs)
        linear = linearize_to_results(active, arguments, graph.captured)
        eliminate(linear.edges, choose_order("auto", linear, True))
        block = linear.block(leaf, ("out", 0))
        variables = self.program.variables
        shape = (*variables[use.head].axes, *variables[use.tail].axes)
        return np.zeros(shape) if block is None else on_host(block.dense())


def on_host(array: Any) -> np.ndarray:
    """An array as formulas are evaluated with it: of half precision in single, of keys their data.

    NumPy contracts no arrays of bfloat16, and no keys.
    """
    if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
        return np.asarray(jax.random.key_data(array))
    host = np.asarray(array)
    is_half = jnp.issubdtype(host.dtype, jnp.floating) and host.dtype.itemsize < 4
    return host.astype(np.float32) if is_half else host


def is_small(formula: ex.Formula) -> bool:
    """Whether a formula can be evaluated in a moment."""
    entries = math.prod(formula.shape)
    terms = formula.body.terms if isinstance(formula.body, ex.Total) else (formula.body,)
    products = max(
        (math.prod(letter.size for letter in letters_of(term)) for term in terms), default=1
    )
    return entries <= MOST_ENTRIES and products <= MOST_PRODUCTS


def can_be_run(program: Program) -> bool:
    """Whether a program is small enough to be run for a check: by the entries of all its values."""
    return sum(math.prod(own.shape) for own in program.variables.values()) <= MOST_VALUES


def random_arguments(program: Program, seed: int, positive: bool = False) -> list[Any]:
    """Arrays for the arguments of a program of which only shapes are known.

    Args:
        program: the program.
        seed: of the generator.
        positive: whether the numbers lie between 0.1 and 1, for functions that need it.
    """
    generator = np.random.default_rng(seed)
    arrays: list[Any] = []
    for value in program.graph.inputs:
        aval = program.graph.avals[value]
        shape: tuple[int, ...] = tuple(aval.shape)
        if jnp.issubdtype(aval.dtype, jax.dtypes.prng_key):
            arrays.append(jax.random.split(jax.random.key(seed), shape))
        elif not jnp.issubdtype(aval.dtype, jnp.inexact):
            arrays.append(np.ones(shape, aval.dtype))
        else:
            near = generator.uniform(0.1, 1.0, size=shape)
            arrays.append((near if positive else generator.normal(size=shape)).astype(aval.dtype))
    return arrays
