"""Term: one structured summand of a Jacobian."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from blockjac.terms.factor import Factor
from blockjac.terms.index import Index, Label, Lookup


@dataclass(frozen=True, eq=False)
class Term:
    """One structured summand of a Jacobian: a product of factors, and an index for each axis.

    A label that occurs both in `out` and in `wrt` is a Kronecker delta between those axes. Along a
    label that no factor has, the term is constant. Every label of a factor occurs in an index, so
    that nothing is left to sum. Output axes come first, as in `jax.jacfwd`.

    Attributes:
        factors: arrays over labels, multiplied lazily.
        out: one index for each output axis.
        wrt: one index for each input axis.
        coefficient: a static scalar that multiplies the whole term.
    """

    factors: tuple[Factor, ...]
    out: tuple[Index, ...]
    wrt: tuple[Index, ...]
    coefficient: Any = 1

    @property
    def indices(self) -> tuple[Index, ...]:
        """The indices of all axes, output first."""
        return self.out + self.wrt

    @property
    def labels(self) -> tuple[Label, ...]:
        """Every label once, by first occurrence in the indices, then in the factors."""
        labels = {label: None for index in self.indices for label in index.labels}
        for factor in self.factors:
            labels.update(dict.fromkeys(factor.labels))
        return tuple(labels)

    @property
    def label_groups(self) -> list[set[Label]]:
        """The labels, grouped by which of them factors and indices join."""
        groups: list[set[Label]] = []
        for labels in (set(part.labels) for part in (*self.factors, *self.indices)):
            if not labels:
                continue
            separate = [group for group in groups if not group & labels]
            groups = [*separate, labels.union(*(group for group in groups if group & labels))]
        return groups

    def has_delta(self, i: int, j: int, size: int) -> bool:
        """Whether output axis i and input axis j share a plain label that no other axis has."""
        out, wrt = self.out[i], self.wrt[j]
        if size == 1 or not out.is_plain(size) or not wrt.is_plain(size):
            return False
        label = out.strides[0][0]
        return (
            wrt.strides[0][0] is label and sum(label in index.labels for index in self.indices) == 2
        )

    def relabelled(self, given: Mapping[Label, Label] | None = None) -> Term:
        """The same term over fresh labels, or over `given` ones where a label has one."""
        fresh = {label: Label(label.size) for label in self.labels}
        fresh.update(given or {})
        lookups: dict[int, Lookup] = {}

        def index_over_fresh(index: Index) -> Index:
            """The index over the new labels; lookups that were shared stay shared."""
            if index.lookup is None:
                return index.relabelled(fresh)
            new = index.relabelled(fresh)
            shared = lookups.setdefault(id(index.lookup), new.lookup)  # pyright: ignore[reportArgumentType]
            return replace(new, lookup=shared)

        return Term(
            tuple(
                Factor(factor.array, tuple(fresh[label] for label in factor.labels), factor.name)
                for factor in self.factors
            ),
            tuple(map(index_over_fresh, self.out)),
            tuple(map(index_over_fresh, self.wrt)),
            self.coefficient,
        )
