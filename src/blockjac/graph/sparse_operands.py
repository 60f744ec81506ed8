"""Products with the sparse arrays of `jax.experimental.sparse`, by gathers and scatters.

An entry of a sparse array is a number with its indices. A product reads the dense operand at these
indices, and adds to entries of the result. Written in this way, its Jacobian by the dense operand
has an entry for each stored number, and none for the zeros that the sparse array leaves out.
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
    """The product of a BCOO array, all of whose axes are sparse, with a dense array.

    Padding has indices outside of the array, where 0 is read and nothing is written.

    Args:
        data: the stored numbers, of shape `(nse,)`.
        indices: their indices, of shape `(nse, rank of the array)`.
        dense: the dense operand.
        dimension_numbers: those of `jax.lax.dot_general`.
        preferred_element_type: dtype of the result; None for that of the operands.
        lhs_spinfo: JAX's description of the array, with its shape.
    """
    (own_inner, inner), _ = dimension_numbers  # only batches of sparse arrays have batch axes
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
    """The product of a BCSR matrix: the row of each number follows from where the rows start.

    Args:
        data: the stored numbers, of shape `(nse,)`.
        columns: the column of each.
        starts: the position in `data` where each row begins, and where the last row ends.
        dense: the dense operand.
        params: those of `bcoo_dot_general`.
    """
    ends = jnp.zeros(len(data) + 1, starts.dtype).at[starts[1:]].add(1)
    rows = jnp.cumsum(ends)[: len(data)].astype(columns.dtype)
    return bcoo_dot_general(data, jnp.stack([rows, columns], axis=1), dense, **params)


def bcoo_todense(data: Any, indices: Any, *, spinfo: Any, **_: Any) -> list[Any]:
    """The dense array with the stored numbers; those with the same indices are added."""
    whole = jnp.zeros(spinfo.shape, data.dtype)
    return [whole.at[_places(indices, range(indices.shape[-1]))].add(data, mode="drop")]


def is_covered(name: str, shapes: Sequence[Sequence[int]]) -> bool:
    """Whether all axes of the sparse array are sparse, and there is only one such array.

    Args:
        name: the name of the primitive.
        shapes: the shapes of its operands.
    """
    data, indices = shapes[:2]
    if name == "bcoo_todense":
        return len(indices) == 2
    return len(data) == 1 and len(indices) == (1 if name == "bcsr_dot_general" else 2)


def _places(indices: Any, axes: Sequence[int]) -> tuple[Any, ...]:
    return tuple(indices[:, axis] for axis in axes)
