"""Products over labels that are sharded over a mesh with explicit axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax

from blockjac.base import compat
from blockjac.terms.factor import Factor
from blockjac.terms.index import Label


def sharded_operands(factors: Sequence[Factor], labels: Sequence[Label]) -> tuple[list[Any], Any]:
    """The factors' arrays, labels that they share sharded alike, and the sharding of a product.

    On a mesh with explicit axes a product over a sharded label does not know where its result is to
    be. A label is where a factor that carries it has it; of two on one mesh axis the first.

    Args:
        factors: with arrays.
        labels: of the product.

    Returns:
        The arrays, and None for the sharding where there is no such mesh.
    """
    given = [compat.explicit_axes(factor.array) for factor in factors]
    mesh = next((found[0] for found in given if found is not None), None)
    if mesh is None:
        return [factor.array for factor in factors], None
    places: dict[Label, Any] = {}
    for factor, found in zip(factors, given, strict=True):
        for label, axis in zip(factor.labels, found[1] if found else (), strict=False):
            if axis is not None:
                places.setdefault(label, axis)
    shared = [label for label in factors[0].labels if label in factors[1].labels]
    moved = []
    for factor, found in zip(factors, given, strict=True):
        own = found[1] if found else (None,) * len(factor.labels)
        axes = [
            places.get(label) if label in shared else axis
            for label, axis in zip(factor.labels, own, strict=True)
        ]
        moved.append(compat.sharded(factor.array, mesh, _once(axes)))
    spec = _once([places.get(label) for label in labels])
    return moved, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*spec))


def _once(axes: Sequence[Any]) -> list[Any]:
    """The mesh axes, each kept where it first occurs."""
    return [axis if axis not in axes[:place] else None for place, axis in enumerate(axes)]
