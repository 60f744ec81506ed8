"""Blocks in which two axes look up the same places: sums over them leave a delta.

A residual that reads a point twice joins the point with itself. As a list of observations that is
`[out = lookup[n]] [wrt = lookup[n]] A[n]`; summed over the observations of each point it is a
diagonal, along which the points are independent systems.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from blockjac.algebra import arrays
from blockjac.algebra.backend import backend
from blockjac.algebra.index_arrays import index_values
from blockjac.terms.block import Block, rebuilt
from blockjac.terms.factor import Factor
from blockjac.terms.index import Index, Label
from blockjac.terms.term import Term


def settled(block: Block) -> Block:
    """The block with a delta in place of each pair of axes that look up the same places."""
    terms = [_settled(term, block) for term in block.terms]
    if all(new is old for new, old in zip(terms, block.terms, strict=True)):
        return block
    return rebuilt(block.out_shape, block.wrt_shape, block.dtype, terms)


def _settled(term: Term, block: Block) -> Term:
    """A term with such deltas."""
    for i, out in enumerate(term.out):
        for j, wrt in enumerate(term.wrt):
            size = block.out_shape[i]
            if (
                block.wrt_shape[j] == size
                and size > 1
                and out.lookup is not None
                and out.is_same(wrt)
            ):
                others = [*term.out[:i], *term.out[i + 1 :], *term.wrt[:j], *term.wrt[j + 1 :]]
                within = set(out.labels)
                if not any(within & set(index.labels) for index in others):
                    return _summed(term, i, j, size, block.dtype)
    return term


def _summed(term: Term, i: int, j: int, size: int, dtype: Any) -> Term:
    """The term with the values of each place of two axes added up."""
    index = term.out[i]
    over = list(index.labels)
    inside = [factor for factor in term.factors if set(factor.labels) & set(over)]
    rest = [label for label in arrays.union(inside) if label not in over]
    target = Label(size)
    value = arrays.product(inside) if inside else None

    def emit() -> jax.Array:
        """Add the values up."""
        factor = value or Factor(jnp.ones((), dtype), ())
        full = arrays.sizes([*over, *rest])
        values = jnp.broadcast_to(arrays.aligned(factor, [*over, *rest]), full)
        places = jnp.broadcast_to(arrays.aligned(index_values(index), over), arrays.sizes(over))
        places = jnp.ravel(jnp.where(places < 0, size, places))
        flat = jnp.reshape(values, (len(places), *arrays.sizes(rest))).astype(dtype)
        total = jnp.zeros((size, *arrays.sizes(rest)), dtype).at[places].add(flat, mode="drop")
        return jnp.reshape(total, arrays.sizes(labels))

    labels = tuple(label for label in (target, *rest) if label.size != 1)
    additions = arrays.numel([*over, *rest])
    factor = backend().factor(labels, dtype, emit, additions=additions)
    kept = [other for other in term.factors if other not in inside]
    out, wrt = list(term.out), list(term.wrt)
    out[i] = wrt[j] = Index.of(target)
    return Term((*kept, factor), tuple(out), tuple(wrt), term.coefficient)
