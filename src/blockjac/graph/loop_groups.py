"""Which loops of a program can run as one, because one reads step by step what the other stacks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from jax.extend import core

from blockjac.base import compat

HARMLESS = frozenset({"DebugEffect", "IOEffect", "NamedAxisEffect"})
"""Effects that may happen in any order."""


@dataclass(frozen=True)
class Scan:
    """The operands and results of a scan, by their kinds.

    Attributes:
        equation: the scan, an equation of a jaxpr.
    """

    equation: Any

    @cached_property
    def counts(self) -> tuple[int, int]:
        """How many constants and how many carried arrays the scan has."""
        return compat.scan_counts(self.equation.params)

    @property
    def consts(self) -> Sequence[Any]:
        """The operands that are the same at every step."""
        return self.equation.invars[: self.counts[0]]

    @property
    def init(self) -> Sequence[Any]:
        """The operands that are carried into the first step."""
        return self.equation.invars[self.counts[0] : sum(self.counts)]

    @property
    def slices(self) -> Sequence[Any]:
        """The operands that are read slice by slice."""
        return self.equation.invars[sum(self.counts) :]

    @property
    def finals(self) -> Sequence[Any]:
        """The results that are carried out of the last step."""
        return self.equation.outvars[: self.counts[1]]

    @property
    def stacks(self) -> Sequence[Any]:
        """The results that are stacked slice by slice."""
        return self.equation.outvars[self.counts[1] :]

    @property
    def steps(self) -> tuple[Any, ...]:
        """What two loops have in common if they run over the same steps."""
        params = self.equation.params
        return params["length"], params["reverse"], params["unroll"]


class LoopGroups:
    """The equations of one jaxpr, without those inside of its loops, and its loops in groups.

    Equations are referred to by their positions in `equations`.

    Attributes:
        jaxpr: the jaxpr, open.
        equations: those that the results depend on, or that have effects.
        used: the variables that these equations or the results read.
        maker: for each variable, the equation that computes it.
        scans: the loops of a known length.
        groups: for each equation, the equations that run in one loop with it, itself included.
    """

    def __init__(self, jaxpr: Any) -> None:
        """Drop unused equations, and group the loops that can run as one."""
        self.jaxpr = jaxpr
        self.equations, self.used = _live(jaxpr)
        self.maker = {
            variable: position
            for position, equation in enumerate(self.equations)
            for variable in equation.outvars
        }
        self.groups = [[position] for position in range(len(self.equations))]
        self.scans = {
            position: Scan(equation)
            for position, equation in enumerate(self.equations)
            if equation.primitive.name == "scan" and not equation.params.get("_split_transpose")
        }
        effects = {type(effect).__name__ for effect in compat.effects(jaxpr)}
        if effects <= HARMLESS:
            self._group()

    @cached_property
    def changes(self) -> bool:
        """Whether anything can be fused or dropped, here or inside of a loop."""
        return any(
            len(group) > 1 or self.is_rebuilt(position)
            for position, group in enumerate(self.groups)
        )

    def is_rebuilt(self, position: int) -> bool:
        """Whether an equation is a loop or a switch that changes by itself."""
        equation = self.equations[position]
        scan = self.scans.get(position)
        if scan is not None and any(stack not in self.used for stack in scan.stacks):
            return True
        is_known = scan is not None or equation.primitive.name in ("while", "cond")
        if not is_known or equation.params.get("branches_platforms") is not None:
            return False
        return any(LoopGroups(inner).changes for inner in core.jaxprs_in_params(equation.params))

    def ordered(self) -> Iterable[Sequence[int]]:
        """The groups, each after those that it depends on, otherwise in the program's order."""
        done: set[int] = set()
        for position in range(len(self.equations)):
            if position != self.groups[position][-1]:
                continue  # runs with the last of its group, or earlier if another group needs it
            waiting = [position]
            while waiting:
                group = self.groups[waiting[-1]]
                missing = {
                    self.maker[variable]
                    for variable in self._operands(group)
                    if variable in self.maker and self.maker[variable] not in group
                } - done
                if missing and group[0] not in done:
                    waiting += sorted(missing, reverse=True)
                    continue
                waiting.pop()
                if group[0] not in done:
                    done.update(group)
                    yield group

    def read_outside(self, scans: Sequence[Scan]) -> set[Any]:
        """The variables that the results or equations other than these scans read."""
        own = [scan.equation for scan in scans]
        read = set(_variables(self.jaxpr.outvars))
        for equation in self.equations:
            if not any(equation is scan for scan in own):
                read.update(_variables(equation.invars))
        return read

    def _group(self) -> None:
        """Merge the groups of each loop and of those whose stacks it reads, where that is safe."""
        for reader, scan in self.scans.items():
            for variable in _variables(scan.slices):
                maker = self.maker.get(variable)
                if maker is None or maker in self.groups[reader]:
                    continue
                if not self._may_join(maker, reader):
                    continue
                joint = sorted([*self.groups[maker], *self.groups[reader]])
                for member in joint:
                    self.groups[member] = joint

    def _may_join(self, maker: int, reader: int) -> bool:
        """Whether a loop runs over the steps of another, and needs nothing of it but its stacks."""
        scan = self.scans.get(maker)
        if scan is None or scan.steps != self.scans[reader].steps:
            return False
        makers, readers = self.groups[maker], self.groups[reader]
        return not self._reaches(makers, readers) and not self._reaches(readers, makers)

    def _reaches(self, sources: Sequence[int], group: Sequence[int]) -> bool:
        """Whether a group depends on other loops by more than stacks it reads step by step."""
        own = {*sources, *group}
        stacks = {variable for position in sources for variable in self.scans[position].stacks}
        pending = []
        for position in group:
            scan = self.scans[position]
            pending += _variables((*scan.consts, *scan.init))
            pending += [variable for variable in _variables(scan.slices) if variable not in stacks]
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
        """The variables that the equations of a group read."""
        return _variables(atom for position in group for atom in self.equations[position].invars)


def _live(jaxpr: Any) -> tuple[list[Any], set[Any]]:
    """The equations that are needed, and the variables that they and the results read."""
    used = set(_variables(jaxpr.outvars))
    needed = []
    for equation in reversed(jaxpr.eqns):
        if equation.effects or not used.isdisjoint(equation.outvars):
            needed.append(equation)
            used.update(_variables(equation.invars))
    return needed[::-1], used


def _variables(atoms: Iterable[Any]) -> list[Any]:
    return [atom for atom in atoms if compat.is_variable(atom)]
