"""Functions that give Blocks, differentiated as functions of what the Blocks stand for."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax

from blockjac.base.trees import flattened
from blockjac.blocks import Block
from blockjac.engine.call import Call
from blockjac.engine.computations import Jacobian
from blockjac.errors import DifferentiationTypeError
from blockjac.planning import Order
from blockjac.rules.complex_parts import is_complex
from blockjac.second_order.of_blocks import Given, OfBlocks
from blockjac.terms.block import flat_parts
from blockjac.transforms.shell import Asked


def gives_blocks(call: Call) -> bool:
    """Whether there are Blocks among the results of a function."""
    leaves, _ = _numbered(call)
    return any(isinstance(leaf, Block) for leaf in leaves)


def of_blocks(call: Call, order: Order) -> Asked:
    """Asks for derivatives of Blocks, in Blocks.

    Raises:
        DifferentiationTypeError: for complex inputs and results.
    """
    call.check_real_inputs()
    if any(map(is_complex, call.results)):
        raise DifferentiationTypeError(
            f"{call.name} of {call.graph_name!r}, which gives complex Blocks: take the real and "
            "the imaginary part of the function, and differentiate each of them twice"
        )
    leaves, tree = _numbered(call)
    given = tuple(
        Given(tuple(parts), structure)
        for leaf in leaves
        for parts, structure in [flat_parts(leaf) if isinstance(leaf, Block) else ([leaf], None)]
    )
    jacobian = Jacobian(call.count, call.smooth, order, dense=False, values=True)
    return OfBlocks(jacobian, given), partial(_put, call, tree)


def _put(call: Call, tree: Any, rows: Any) -> Any:
    """The tree of the results with, in place of each Block, the tree of the arguments."""
    return jax.tree.unflatten(
        tree, [call.argument_tree(row, row[0].out_shape if row else ()) for row in rows]
    )


def _numbered(call: Call) -> tuple[list[Any], Any]:
    """The results: numbers of those of the graph, and Blocks of such numbers."""
    numbered = call.value(list(range(call.count)))
    return flattened(numbered, is_leaf=lambda node: isinstance(node, Block))
