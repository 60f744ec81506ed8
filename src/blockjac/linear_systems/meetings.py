"""Systems of which each meets only some of the other unknowns: lists of who meets whom.

Points are seen by some of the cameras, readers have rated some of the books. The unknowns that are
left fall into groups, such as the parameters of a camera, and a system meets a group or does not.
All that Schur's complement needs of the coupling is a small matrix for each meeting; its products
are those of two meetings of the same system.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


@dataclass(frozen=True, eq=False)
class Bucket:
    """Pairs of meetings, by the pair of groups, padded to the same number for each.

    Attributes:
        first: the group of the first meeting, at most that of the second, `(k,)`.
        second: the group of the second meeting, `(k,)`.
        left: the numbers of the first meetings, `(k, most)`, M for none.
        right: likewise of the second ones.
    """

    first: np.ndarray
    second: np.ndarray
    left: np.ndarray
    right: np.ndarray


@dataclass(frozen=True, eq=False)
class Meetings:
    """Which system meets which group of the unknowns that are left.

    Attributes:
        systems: the number of systems.
        depth: the number of unknowns of a system.
        system: the system of each meeting, `(M,)`.
        group: the group of each meeting.
        listed: for each term of the coupling the number of the meeting of each of its entries.
        unknowns: the unknowns of each group, `(groups, width)`, r where there are fewer.
        rest: the number r of unknowns that are left.
    """

    systems: int
    depth: int
    system: np.ndarray
    group: np.ndarray
    listed: list[np.ndarray]
    unknowns: np.ndarray
    rest: int

    @property
    def count(self) -> int:
        """The number M of meetings."""
        return len(self.system)

    @property
    def nbytes(self) -> int:
        """About how many bytes the lists take, those of pairs included."""
        return 64 * (self.count + self.pairs) + self.unknowns.nbytes

    @functools.cached_property
    def pairs(self) -> int:
        """The number of pairs of meetings of the same system."""
        return int(np.sum(np.bincount(self.system, minlength=1) ** 2))

    @functools.cached_property
    def position(self) -> np.ndarray:
        """The position of each unknown that is left in the flattened `unknowns`, `(r,)`."""
        flat = self.unknowns.ravel()
        position = np.zeros(self.rest, np.int64)
        inside = flat < self.rest
        position[flat[inside]] = np.flatnonzero(inside)
        return position

    @functools.cached_property
    def buckets(self) -> list[Bucket]:
        """All pairs; groups that have up to twice as many pairs as others share a bucket."""
        order = np.argsort(self.system, kind="stable")
        many = np.bincount(self.system, minlength=self.systems)
        start = np.cumsum(many) - many
        system = self.system[order]
        left = np.repeat(np.arange(self.count), many[system])
        ends = np.cumsum(many[system])
        offset = np.arange(len(left)) - np.repeat(ends - many[system], many[system])
        left, right = order[left], order[start[system[left]] + offset]
        kept = self.group[left] <= self.group[right]
        left, right = left[kept], right[kept]
        key = self.group[left] * len(self.unknowns) + self.group[right]
        sort = np.argsort(key, kind="stable")
        left, right = left[sort], right[sort]
        keys, first, counts = np.unique(key[sort], return_index=True, return_counts=True)
        sizes = np.ceil(np.log2(counts)).astype(int)
        return [
            self._bucket(
                keys[sizes == size], first[sizes == size], counts[sizes == size], left, right
            )
            for size in np.unique(sizes)
        ]

    def _bucket(
        self, keys: np.ndarray, first: np.ndarray, counts: np.ndarray, left: Any, right: Any
    ) -> Bucket:
        """The pairs of some pairs of groups."""
        steps = np.arange(int(counts.max()))
        chosen = np.minimum(first[:, None] + steps, len(left) - 1)
        inside = steps < counts[:, None]
        groups = len(self.unknowns)
        return Bucket(
            keys // groups,
            keys % groups,
            np.where(inside, left[chosen], self.count),
            np.where(inside, right[chosen], self.count),
        )

    def grouped(self, vector: jax.Array) -> jax.Array:
        """A vector of the unknowns that are left, group by group, `(groups, width)`."""
        return jnp.pad(vector, (0, 1))[self.unknowns]

    def ungrouped(self, parts: jax.Array) -> jax.Array:
        """The inverse of `grouped`."""
        return jnp.ravel(parts)[self.position]

    def times(self, matrices: jax.Array, vector: jax.Array) -> jax.Array:
        """The product of the coupling with a vector of what is left, `(systems, depth)`."""
        met = self.grouped(vector)[self.group]
        products = jnp.einsum("mpq,mq->mp", matrices, met)
        return jnp.zeros((self.systems, self.depth), products.dtype).at[self.system].add(products)

    def adjoint_times(self, matrices: jax.Array, vectors: jax.Array) -> jax.Array:
        """The product of the coupling's adjoint with vectors of the systems, `(r,)`."""
        products = jnp.einsum("mpq,mp->mq", jnp.conj(matrices), vectors[self.system])
        total = jnp.zeros(self.unknowns.shape, products.dtype).at[self.group].add(products)
        return self.ungrouped(total)

    def products(self, left: jax.Array, right: jax.Array) -> list[jax.Array]:
        """`left^H right` of each pair of groups, `(k, width, width)` for each bucket."""
        width = self.unknowns.shape[1]

        def gathered(matrices: jax.Array, numbers: np.ndarray) -> jax.Array:
            chosen = matrices.at[numbers].get(mode="fill", fill_value=0)
            return jnp.reshape(chosen, (len(numbers), -1, width))

        left = jnp.conj(left)
        return [
            jnp.einsum(
                "kna,knb->kab",
                gathered(left, bucket.left),
                gathered(right, bucket.right),
            )
            for bucket in self.buckets
        ]

    def forms(self, matrices: jax.Array, inverse: jax.Array) -> jax.Array:
        """The diagonal of `X Z X^H`, with the coupling X and a matrix Z `(r, r)`; all of it real.

        Returns:
            An array `(systems, depth)`.
        """
        groups, width = self.unknowns.shape
        flat = self.unknowns.ravel()
        padded = jnp.pad(inverse, [(0, 1), (0, 1)])[flat][:, flat]
        tiles = jnp.reshape(padded, (groups, width, groups, width))
        X = jnp.pad(matrices, [(0, 1), (0, 0), (0, 0)])
        system = np.append(self.system, self.systems)
        total = jnp.zeros((self.systems + 1, self.depth), matrices.dtype)
        for bucket in self.buckets:
            weights = jnp.asarray(np.where(bucket.first == bucket.second, 1, 2), matrices.dtype)
            Z = weights[:, None, None] * tiles[bucket.first, :, bucket.second]
            half = jnp.einsum("knpa,kab->knpb", X[bucket.left], Z)
            parts = jnp.sum(half * jnp.conj(X[bucket.right]), axis=3)
            total = total.at[system[bucket.left]].add(jnp.real(parts).astype(total.dtype))
        return total[: self.systems]
