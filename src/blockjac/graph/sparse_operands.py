"""Products with the sparse arrays of `jax.experimental.sparse`, by gathers and scatters.

An entry of a sparse array is a place and a number: a product reads its other operand at the places
and adds to those of the result. Written so, the Jacobian by the dense operand has an entry for each
stored number, and none for the zeros that a sparse array is made to leave out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp


def bcoo_dot_general(
    data: Any,
    indices: Any,
    dense: Any,
    *,
    dimension_numbers: Any,
    preferred_element_type: Any,
    lhs_spinfo: Any,
    **_: Any,
) -> list[Any]:
    """The product of a BCOO array, which has sparse axes only, with a dense one.

    Padding stands at places outside the array: what is read there is 0, and nothing is written.

    Args:
        data: the stored numbers, `(nse,)`.
        indices: their places, `(nse, axes of the array)`.
        dense: the other operand.
        dimension_numbers: as of `jax.lax.dot_general`.
        preferred_element_type: dtype of the result; None for that of the operands.
        lhs_spinfo: JAX's description of the array, with its shape.
    """
    (own_inner, inner), _ = dimension_numbers  # batches would be of a batch of sparse arrays
    shape = lhs_spinfo.shape
    written = [axis for axis in range(len(shape)) if axis not in own_inner]
    free = [axis for axis in range(dense.ndim) if axis not in inner]
    read = jnp.transpose(dense, (*inner, *free))
    if inner:
        read = read.at[_places(indices, own_inner)].get(mode="fill", fill_value=0)
    else:
        read = jnp.broadcast_to(read, (len(data), *read.shape))
    products = jnp.reshape(data, (len(data), *(1 for _ in free))) * read
    if written:
        whole = (*(shape[axis] for axis in written), *products.shape[1:])
        total = jnp.zeros(whole, products.dtype)
        total = total.at[_places(indices, written)].add(products, mode="drop")
    else:
        inside = jnp.all(indices < jnp.asarray(shape, indices.dtype), axis=1)
        inside = jnp.reshape(inside, (len(data), *(1 for _ in free)))
        total = jnp.sum(jnp.where(inside, products, 0), axis=0)
    return [total if preferred_element_type is None else total.astype(preferred_element_type)]


def bcsr_dot_general(data: Any, columns: Any, starts: Any, dense: Any, **params: Any) -> list[Any]:
    """As `bcoo_dot_general`, of a BCSR matrix: the row of each number follows from the starts.

    Args:
        data: the stored numbers, `(nse,)`.
        columns: of each of them.
        starts: where in them each row begins, and where the last one ends.
        dense: the other operand.
        params: those of `bcoo_dot_general`.
    """
    ends = jnp.zeros(len(data) + 1, starts.dtype).at[starts[1:]].add(1)
    rows = jnp.cumsum(ends)[: len(data)].astype(columns.dtype)
    return bcoo_dot_general(data, jnp.stack([rows, columns], axis=1), dense, **params)


def bcoo_todense(data: Any, indices: Any, *, spinfo: Any, **_: Any) -> list[Any]:
    """The dense array with the stored numbers in their places; those of one place add up."""
    whole = jnp.zeros(spinfo.shape, data.dtype)
    return [whole.at[_places(indices, range(indices.shape[-1]))].add(data, mode="drop")]


def is_covered(name: str, shapes: Sequence[Sequence[int]]) -> bool:
    """Whether these products are of an array with sparse axes only, without batches of arrays.

    Args:
        name: of the primitive.
        shapes: of its operands.
    """
    data, indices = shapes[:2]
    if name == "bcoo_todense":
        return len(indices) == 2
    return len(data) == 1 and len(indices) == (1 if name == "bcsr_dot_general" else 2)


def _places(indices: Any, axes: Sequence[int]) -> tuple[Any, ...]:
    return tuple(indices[:, axis] for axis in axes)
