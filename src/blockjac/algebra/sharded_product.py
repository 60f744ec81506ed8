"""Products over labels that are sharded over a mesh with explicit axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax

from blockjac.base import compat
from blockjac.terms.factor import Factor
from blockjac.terms.index import Label


def sharded_operands(factors: Sequence[Factor], labels: Sequence[Label]) -> tuple[list[Any], Any]:
    """The factors' arrays, with shared labels sharded alike, and the sharding of their product.

    On a mesh with explicit axes a product over a sharded label does not determine the sharding of
    its result. A label is sharded as in the first factor that shards it; of two labels on the same
    mesh axis only the first is.

    Args:
        factors: two factors.
        labels: the labels of the product.

    Returns:
        The arrays, and the sharding; None without such a mesh.
    """
    shardings = [compat.explicit_axes(factor.array) for factor in factors]
    mesh = next((sharding[0] for sharding in shardings if sharding is not None), None)
    if mesh is None:
        return [factor.array for factor in factors], None
    axis_of: dict[Label, Any] = {}
    for factor, sharding in zip(factors, shardings, strict=True):
        for label, axis in zip(factor.labels, sharding[1] if sharding else (), strict=False):
            if axis is not None:
                axis_of.setdefault(label, axis)
    shared = [label for label in factors[0].labels if label in factors[1].labels]
    moved: list[Any] = []
    for factor, sharding in zip(factors, shardings, strict=True):
        current = sharding[1] if sharding else (None,) * len(factor.labels)
        axes = [
            axis_of.get(label) if label in shared else axis
            for label, axis in zip(factor.labels, current, strict=True)
        ]
        moved.append(compat.sharded(factor.array, mesh, _once(axes)))
    spec = _once([axis_of.get(label) for label in labels])
    return moved, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*spec))


def _once(axes: Sequence[Any]) -> list[Any]:
    """The mesh axes, each kept where it first occurs and None elsewhere."""
    return [axis if axis not in axes[:count] else None for count, axis in enumerate(axes)]
