"""Loops over the same steps, one of which reads what the other stacks, become one loop.

A loop is evaluated before it is known which way its derivative will go, so its steps stack whatever
either direction needs. In forward mode, the loop of the tangents then reads these stacks step by
step. Here the two become one loop, which passes the values on inside of each step and stacks
nothing: forward mode takes no more memory than the values. Stacks that nothing reads are dropped,
in nested loops too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend import core

from blockjac.base import compat
from blockjac.graph.graph import Graph
from blockjac.graph.loop_groups import LoopGroups, Scan

Arrays = Sequence[Any]


def with_fused_loops(function: Callable[..., Any], graph: Graph) -> Callable[..., Any]:
    """A computation on a graph with the loops in it fused; unchanged if the graph has no loops.

    Args:
        function: maps trees of arrays to a tree of arrays.
        graph: the graph that it computes on.
    """
    if any(_has_scan(equation.primitive.name, equation.params) for equation in graph.equations):
        return fused(function)
    return function


def fused(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, with its loops fused.

    Args:
        function: maps trees of arrays to a tree of arrays.

    Examples:
        >>> def twice(x):
        ...     _, squares = lax.scan(lambda c, v: (c, v * v), 0, x)
        ...     return lax.scan(lambda total, v: (total + v, None), 0.0, squares)[0]
        >>> closed = jax.make_jaxpr(fused(twice))(jnp.arange(3.0))
        >>> [equation.primitive.name for equation in closed.eqns]
        ['scan']
    """

    def run(*arguments: Any) -> Any:
        """Trace the function to a jaxpr, and evaluate that with its loops fused."""
        leaves, tree = jax.tree.flatten(arguments)
        trees: list[Any] = []

        def flat(*leaves: Any) -> list[Any]:
            results, out_tree = jax.tree.flatten(function(*jax.tree.unflatten(tree, leaves)))
            trees.append(out_tree)
            return results

        closed = jax.make_jaxpr(flat)(*leaves)
        return jax.tree.unflatten(trees[0], _evaluated(closed, leaves))

    return run


def _has_scan(name: str, params: Mapping[str, Any]) -> bool:
    return name == "scan" or any(
        _has_scan(equation.primitive.name, equation.params)
        for jaxpr in core.jaxprs_in_params(dict(params))
        for equation in jaxpr.eqns
    )


def _evaluated(closed: Any, arguments: Arrays) -> list[Any]:
    """The results of a jaxpr, with its loops fused."""
    loops = LoopGroups(compat.open_jaxpr(closed))
    if not loops.changes:
        return compat.evaluated(closed, arguments)
    return _Evaluation(loops, compat.constants(closed), arguments).results()


class _Evaluation:
    """The evaluation of a jaxpr, group by group.

    Attributes:
        loops: the jaxpr and its groups.
        values: the arrays computed so far, by variable.
    """

    def __init__(self, loops: LoopGroups, constants: Arrays, arguments: Arrays) -> None:
        self.loops = loops
        self.values: dict[Any, Any] = {}
        self.values.update(zip(loops.jaxpr.constvars, constants, strict=True))
        self.values.update(zip(loops.jaxpr.invars, arguments, strict=True))

    def results(self) -> list[Any]:
        """The results of the jaxpr."""
        for group in self.loops.ordered():
            with compat.as_if_at(self.loops.equations[group[0]].source_info):
                self.values.update(self._group_results(group))
        return [self._read(atom) for atom in self.loops.jaxpr.outvars]

    def _read(self, atom: Any) -> Any:
        return self.values[atom] if compat.is_variable(atom) else atom.val

    def _group_results(self, group: Sequence[int]) -> Iterable[tuple[Any, Any]]:
        """The results of a group by variable: one loop for several, or one equation."""
        first = group[0]
        equation = self.loops.equations[first]
        is_rebuilt = self.loops.is_rebuilt(first)
        if first in self.loops.scans and (len(group) > 1 or is_rebuilt):
            return self._one_loop([self.loops.scans[position] for position in group])
        operands = [self._read(atom) for atom in equation.invars]
        if is_rebuilt:
            rebuilt = _while if equation.primitive.name == "while" else _switch
            results = rebuilt(equation.params, operands)
        else:
            results = compat.bind(equation.primitive, operands, equation.params)
        return zip(equation.outvars, results, strict=True)

    def _one_loop(self, scans: Sequence[Scan]) -> list[tuple[Any, Any]]:
        """The results of several scans, from one scan over their common steps."""
        inner = {variable for scan in scans for variable in scan.stacks}
        readers = self.loops.read_outside(scans)
        outer_stacks = [
            stack
            for scan in scans
            for stack in scan.stacks
            if stack in self.loops.used and stack in readers
        ]
        slices = list(
            dict.fromkeys(atom for scan in scans for atom in scan.slices if atom not in inner)
        )
        consts = [[self._read(atom) for atom in scan.consts] for scan in scans]

        def step(carry: Sequence[Arrays], slices_at_step: Arrays) -> Any:
            """A step of each scan in turn, which may read what those before it have stacked."""
            at_step = dict(zip(slices, slices_at_step, strict=True))
            carried = []
            for scan, constants, state in zip(scans, consts, carry, strict=True):
                own = [at_step[atom] for atom in scan.slices]
                body = scan.equation.params["jaxpr"]
                results = compat.evaluated(body, [*constants, *state, *own])
                carried.append(results[: len(state)])
                at_step.update(zip(scan.stacks, results[len(state) :], strict=True))
            return carried, [at_step[stack] for stack in outer_stacks]

        length, reverse, unroll = scans[0].steps
        finals, stacks = lax.scan(
            fused(step),
            [[_array(atom, self._read(atom)) for atom in scan.init] for scan in scans],
            [self._read(atom) for atom in slices],
            length,
            reverse=reverse,
            unroll=unroll,
        )
        results = list(zip(outer_stacks, stacks, strict=True))
        for scan, state in zip(scans, finals, strict=True):
            results += zip(scan.finals, state, strict=True)
        return results


def _array(atom: Any, value: Any) -> Any:
    return value if compat.is_variable(atom) else jnp.asarray(value, atom.aval.dtype)


def _while(params: Mapping[str, Any], operands: Arrays) -> Any:
    """A loop of unknown length, with the loops inside of it fused."""
    bodies = params["cond_nconsts"]
    init = bodies + params["body_nconsts"]
    of_condition, of_body = operands[:bodies], operands[bodies:init]
    return lax.while_loop(
        lambda state: _evaluated(params["cond_jaxpr"], [*of_condition, *state])[0],
        lambda state: _evaluated(params["body_jaxpr"], [*of_body, *state]),
        [jnp.asarray(array) for array in operands[init:]],
    )


def _switch(params: Mapping[str, Any], operands: Arrays) -> Any:
    """A switch, with the loops inside of its branches fused."""

    def branch(closed: Any) -> Callable[..., list[Any]]:
        return lambda *operands: _evaluated(closed, operands)

    index, *rest = operands
    return lax.switch(index, [branch(closed) for closed in params["branches"]], *rest)
