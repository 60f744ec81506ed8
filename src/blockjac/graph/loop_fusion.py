"""Loops that run over the same steps, one reading what the other stacks, become one loop.

A loop is evaluated before it is known which way its derivative will go: its steps stack what either
way needs. Forwards, the loop of the tangents then reads these stacks step by step. Here the two
become one loop, which hands the values over inside of a step and stacks nothing: forward mode takes
the memory of its values. What is stacked and read by nobody is dropped, in loops inside of loops
too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend import core

from blockjac.base import compat
from blockjac.graph.graph import Graph

Arrays = Sequence[Any]

HARMLESS = frozenset({"DebugEffect", "IOEffect", "NamedAxisEffect"})
"""Effects that may come in any order."""


def with_fused_loops(function: Callable[..., Any], graph: Graph) -> Callable[..., Any]:
    """A computation on a graph, with the loops in it fused; as it is where the graph has none.

    Args:
        function: of trees of arrays, giving a tree of arrays.
        graph: what it computes on.
    """
    if any(_holds_scan(equation.primitive.name, equation.params) for equation in graph.equations):
        return fused(function)
    return function


def fused(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, with its loops fused.

    Args:
        function: of trees of arrays, giving a tree of arrays.

    Examples:
        >>> def twice(x):
        ...     _, squares = lax.scan(lambda c, v: (c, v * v), 0, x)
        ...     return lax.scan(lambda total, v: (total + v, None), 0.0, squares)[0]
        >>> closed = jax.make_jaxpr(fused(twice))(jnp.arange(3.0))
        >>> [equation.primitive.name for equation in closed.eqns]
        ['scan']
    """

    def run(*arguments: Any) -> Any:
        leaves, tree = jax.tree.flatten(arguments)
        trees: list[Any] = []

        def flat(*leaves: Any) -> list[Any]:
            found, out_tree = jax.tree.flatten(function(*jax.tree.unflatten(tree, leaves)))
            trees.append(out_tree)
            return found

        closed = jax.make_jaxpr(flat)(*leaves)
        return jax.tree.unflatten(trees[0], _evaluated(closed, leaves))

    return run


def _holds_scan(name: str, params: Mapping[str, Any]) -> bool:
    return name == "scan" or any(
        _holds_scan(one.primitive.name, one.params)
        for jaxpr in core.jaxprs_in_params(dict(params))
        for one in jaxpr.eqns
    )


def _evaluated(closed: Any, arguments: Arrays) -> list[Any]:
    """The results of a jaxpr, its loops fused."""
    level = _Level(compat.open_jaxpr(closed))
    if not level.changes:
        return compat.evaluated(closed, arguments)
    return level.run(compat.constants(closed), arguments)


@dataclass(frozen=True)
class _Scan:
    """The operands and results of a scan, by their kinds."""

    equation: Any

    @cached_property
    def counts(self) -> tuple[int, int]:
        return compat.scan_counts(self.equation.params)

    @property
    def consts(self) -> Sequence[Any]:
        return self.equation.invars[: self.counts[0]]

    @property
    def init(self) -> Sequence[Any]:
        return self.equation.invars[self.counts[0] : sum(self.counts)]

    @property
    def slices(self) -> Sequence[Any]:
        return self.equation.invars[sum(self.counts) :]

    @property
    def finals(self) -> Sequence[Any]:
        return self.equation.outvars[: self.counts[1]]

    @property
    def stacks(self) -> Sequence[Any]:
        return self.equation.outvars[self.counts[1] :]

    @property
    def steps(self) -> tuple[Any, ...]:
        """What two loops share that run over the same steps."""
        params = self.equation.params
        return params["length"], params["reverse"], params["unroll"]


class _Level:
    """The equations of one jaxpr, those inside of its loops apart.

    Attributes:
        equations: those that the results depend on, or that have effects.
        used: the variables that these equations or the results read.
        groups: of each equation by its place, the places of those that run in one loop with it.
    """

    def __init__(self, jaxpr: Any) -> None:
        self.jaxpr = jaxpr
        self.equations, self.used = _live(jaxpr)
        self.maker = {
            variable: place
            for place, equation in enumerate(self.equations)
            for variable in equation.outvars
        }
        self.groups = [[place] for place in range(len(self.equations))]
        self.scans = {
            place: _Scan(equation)
            for place, equation in enumerate(self.equations)
            if equation.primitive.name == "scan" and not equation.params.get("_split_transpose")
        }
        names = {type(effect).__name__ for effect in compat.effects(jaxpr)}
        if names <= HARMLESS:
            self._group()

    @cached_property
    def changes(self) -> bool:
        """Whether anything is to be done, here or inside of a loop."""
        return any(
            len(group) > 1 or self._is_rebuilt(place) for place, group in enumerate(self.groups)
        )

    def _is_rebuilt(self, place: int) -> bool:
        """Whether an equation is a loop or a switch to be made anew."""
        equation = self.equations[place]
        scan = self.scans.get(place)
        if scan is not None and any(one not in self.used for one in scan.stacks):
            return True
        is_known = scan is not None or equation.primitive.name in ("while", "cond")
        if not is_known or equation.params.get("branches_platforms") is not None:
            return False
        return any(_Level(inner).changes for inner in core.jaxprs_in_params(equation.params))

    # Which loops run together

    def _group(self) -> None:
        for place, scan in self.scans.items():
            for variable in scan.slices:
                maker = self.maker.get(variable) if compat.is_variable(variable) else None
                if maker is None or maker in self.groups[place]:
                    continue
                if not self._may_join(maker, place):
                    continue
                joint = sorted([*self.groups[maker], *self.groups[place]])
                for member in joint:
                    self.groups[member] = joint

    def _may_join(self, maker: int, place: int) -> bool:
        """Whether one loop runs over the steps of another, and reads its stacks alone."""
        first = self.scans.get(maker)
        if first is None or first.steps != self.scans[place].steps:
            return False
        one, other = self.groups[maker], self.groups[place]
        return not self._reaches(one, other) and not self._reaches(other, one)

    def _reaches(self, sources: Sequence[int], group: Sequence[int]) -> bool:
        """Whether a loop depends on others by more than stacks that it reads step by step."""
        own = {*sources, *group}
        stacks = {variable for place in sources for variable in self.scans[place].stacks}
        pending = []
        for place in group:
            scan = self.scans[place]
            pending += [one for one in (*scan.consts, *scan.init) if compat.is_variable(one)]
            pending += [one for one in scan.slices if compat.is_variable(one) and one not in stacks]
        seen: set[int] = set()
        while pending:
            maker = self.maker.get(pending.pop())
            if maker is None or maker in seen:
                continue
            if maker in own:
                if maker in sources:
                    return True
                continue
            seen.update(self.groups[maker])
            pending += self._operands(self.groups[maker])
        return False

    def _operands(self, group: Iterable[int]) -> list[Any]:
        return [
            atom
            for place in group
            for atom in self.equations[place].invars
            if compat.is_variable(atom)
        ]

    # The computation

    def run(self, constants: Arrays, arguments: Arrays) -> list[Any]:
        """The results."""
        values: dict[Any, Any] = {}
        values.update(zip(self.jaxpr.constvars, constants, strict=True))
        values.update(zip(self.jaxpr.invars, arguments, strict=True))

        def read(atom: Any) -> Any:
            return values[atom] if compat.is_variable(atom) else atom.val

        for group in self._ordered():
            with compat.as_if_at(self.equations[group[0]].source_info):
                values.update(self._results(group, read))
        return [read(atom) for atom in self.jaxpr.outvars]

    def _ordered(self) -> Iterable[Sequence[int]]:
        """The groups, each after those that it depends on, else in the order of the program."""
        done: set[int] = set()
        for place in range(len(self.equations)):
            if place != self.groups[place][-1]:
                continue  # it waits for the last of its group, or until it is asked for
            waiting = [place]
            while waiting:
                group = self.groups[waiting[-1]]
                missing = {
                    self.maker[one]
                    for one in self._operands(group)
                    if one in self.maker and self.maker[one] not in group
                } - done
                if missing and group[0] not in done:
                    waiting += sorted(missing, reverse=True)
                    continue
                waiting.pop()
                if group[0] not in done:
                    done.update(group)
                    yield group

    def _results(
        self, group: Sequence[int], read: Callable[[Any], Any]
    ) -> Iterable[tuple[Any, Any]]:
        place = group[0]
        equation = self.equations[place]
        if place in self.scans and (len(group) > 1 or self._is_rebuilt(place)):
            return self._one_loop([self.scans[one] for one in group], read)
        operands = [read(atom) for atom in equation.invars]
        if self._is_rebuilt(place):
            again = _while_again if equation.primitive.name == "while" else _switch_again
            results = again(equation.params, operands)
        else:
            results = compat.bind(equation.primitive, operands, equation.params)
        return zip(equation.outvars, results, strict=True)

    def _one_loop(
        self, scans: Sequence[_Scan], read: Callable[[Any], Any]
    ) -> list[tuple[Any, Any]]:
        """The results of several scans, by one over the steps that they share."""
        inside = {variable for scan in scans for variable in scan.stacks}
        readers = self._readers(scans)
        kept = [one for scan in scans for one in scan.stacks if one in self.used and one in readers]
        slices = list(dict.fromkeys(x for scan in scans for x in scan.slices if x not in inside))
        consts = [[read(one) for one in scan.consts] for scan in scans]

        def step(carry: Sequence[Arrays], given: Arrays) -> Any:
            at_step = dict(zip(slices, given, strict=True))
            moved = []
            for scan, constants, state in zip(scans, consts, carry, strict=True):
                own = [at_step[one] for one in scan.slices]
                body = scan.equation.params["jaxpr"]
                found = compat.evaluated(body, [*constants, *state, *own])
                moved.append(found[: len(state)])
                at_step.update(zip(scan.stacks, found[len(state) :], strict=True))
            return moved, [at_step[one] for one in kept]

        length, reverse, unroll = scans[0].steps
        finals, stacks = lax.scan(
            fused(step),
            [[_array(one, read(one)) for one in scan.init] for scan in scans],
            [read(one) for one in slices],
            length,
            reverse=reverse,
            unroll=unroll,
        )
        found = list(zip(kept, stacks, strict=True))
        for scan, state in zip(scans, finals, strict=True):
            found += zip(scan.finals, state, strict=True)
        return found

    def _readers(self, scans: Sequence[_Scan]) -> set[Any]:
        """The variables that something outside of these loops reads."""
        own = [scan.equation for scan in scans]
        read = {atom for atom in self.jaxpr.outvars if compat.is_variable(atom)}
        for equation in self.equations:
            if not any(equation is one for one in own):
                read.update(atom for atom in equation.invars if compat.is_variable(atom))
        return read


def _live(jaxpr: Any) -> tuple[list[Any], set[Any]]:
    """The equations that are needed, and the variables that they and the results read."""
    used = {atom for atom in jaxpr.outvars if compat.is_variable(atom)}
    kept = []
    for equation in reversed(jaxpr.eqns):
        if equation.effects or not used.isdisjoint(equation.outvars):
            kept.append(equation)
            used.update(atom for atom in equation.invars if compat.is_variable(atom))
    return kept[::-1], used


def _array(atom: Any, value: Any) -> Any:
    return value if compat.is_variable(atom) else jnp.asarray(value, atom.aval.dtype)


def _while_again(params: Mapping[str, Any], operands: Arrays) -> Any:
    """A loop of unknown length, what is inside of it fused."""
    first, second = params["cond_nconsts"], params["body_nconsts"]
    of_condition, of_body = operands[:first], operands[first : first + second]
    return lax.while_loop(
        lambda state: _evaluated(params["cond_jaxpr"], [*of_condition, *state])[0],
        lambda state: _evaluated(params["body_jaxpr"], [*of_body, *state]),
        [jnp.asarray(one) for one in operands[first + second :]],
    )


def _switch_again(params: Mapping[str, Any], operands: Arrays) -> Any:
    """A switch, what is inside of its branches fused."""

    def branch(closed: Any) -> Callable[..., list[Any]]:
        return lambda *operands: _evaluated(closed, operands)

    index, *rest = operands
    return lax.switch(index, [branch(closed) for closed in params["branches"]], *rest)
