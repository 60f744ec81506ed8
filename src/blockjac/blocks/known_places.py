"""Compiled programs of whole matrices in which the places of the entries are constants."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import jax
import numpy as np

from blockjac.algebra.backend import backend
from blockjac.base.caches import Cache
from blockjac.base.compat import Tracer
from blockjac.exports.prototypes import Held, lookup_positions
from blockjac.terms.block import Block, flat_parts, unflatten

_programs: Cache[Callable[..., Any]] = Cache("programs of matrices", 256)


def with_known_places(
    function: Callable[..., Any], matrix: Any, *operands: Any, **static: Any
) -> Any:
    """`function(matrix, *operands, **static)`, compiled unless a trace is under way.

    The lookups of the blocks are constants of the program, so the function can depend on where the
    entries are, and each pattern has its own program.

    Args:
        function: takes a matrix and trees of arrays; the same object at each call.
        matrix: a Block, or a tree of Blocks and arrays such as a BlockMatrix.
        operands: trees of arrays.
        static: further arguments, hashable.
    """
    flatten = cast("Any", jax.tree.flatten)
    blocks, tree = flatten(matrix, is_leaf=_is_block)
    parts = [_parts(block) for block in blocks]
    leaves = [*(array for part in parts for array in part[0]), *jax.tree.leaves(operands)]
    is_concrete = not any(isinstance(leaf, Tracer) for leaf in leaves) and not any(
        isinstance(lookup, Tracer) for part in parts for lookup in part[1]
    )
    if not leaves or not backend().select(is_concrete, False):
        return function(matrix, *operands, **static)
    places = tuple(tuple(map(_identity, part[1])) for part in parts)
    structures = tuple(part[2] for part in parts)
    key = (function, tree, structures, places, tuple(static.items()))
    lookups: list[list[np.ndarray]] = [list(map(np.asarray, part[1])) for part in parts]

    def program() -> Callable[..., Any]:
        """The program of a pattern, which takes the arrays other than lookups."""

        def call(arrays: Sequence[Sequence[Any]], operands: Any) -> Any:
            """Rebuild the matrix, and call the function."""
            rebuilt = [
                _with_lookups(structure, block_arrays, block_lookups)
                for structure, block_arrays, block_lookups in zip(
                    structures, arrays, lookups, strict=True
                )
            ]
            return function(jax.tree.unflatten(tree, rebuilt), *operands, **static)

        return jax.jit(call)

    return _programs.made(key, program)([part[0] for part in parts], operands)


def _is_block(node: Any) -> bool:
    return isinstance(node, Block)


def _parts(block: Any) -> tuple[list[Any], list[Any], Any]:
    """The arrays of a block other than its lookups, its lookups, and its structure.

    Any other array has no structure.
    """
    if not _is_block(block):
        return [block], [], None
    arrays, structure = flat_parts(block)
    positions = lookup_positions(structure)
    others = [array for position, array in enumerate(arrays) if position not in positions]
    return others, [arrays[position] for position in positions], structure


def _with_lookups(structure: Any, arrays: Sequence[Any], lookups: Sequence[Any]) -> Any:
    """Rebuild a block from its structure, its lookups and its other arrays; or an array."""
    if structure is None:
        return arrays[0]
    positions = lookup_positions(structure)
    lookup_at = dict(zip(positions, lookups, strict=True))
    others = iter(arrays)
    count = len(arrays) + len(lookups)
    return unflatten(
        structure,
        [lookup_at[i] if i in lookup_at else next(others) for i in range(count)],
    )


def _identity(lookup: Any) -> Any:
    """A key for a lookup: the identity of a constant array, the values of any other."""
    if isinstance(lookup, np.ndarray):
        return Held(cast("np.ndarray", lookup))
    return lookup.shape, str(lookup.dtype), np.asarray(lookup).tobytes()
