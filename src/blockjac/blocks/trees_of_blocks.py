"""A matrix from the tree of blocks that `block_jacobian` gives of a function of trees."""

from __future__ import annotations

from typing import Any

from blockjac.base.trees import flattened, mapped, tree_structure
from blockjac.blocks.block_matrix import BlockMatrix
from blockjac.blocks.systems import vectors_of
from blockjac.terms.block import Block
from blockjac.terms.matrix_interface import MatrixInterface


def matrix_by_inputs(matrix: MatrixInterface, jacobian: Any) -> Any:
    """A tree of blocks by the inputs of a matrix as one BlockMatrix; anything else as it is.

    Args:
        matrix: whose inputs are those of the Jacobian.
        jacobian: a tree of the outputs, with a tree of the inputs in place of each leaf.
    """
    inputs, shapes = vectors_of(matrix)
    blocks, whole = flattened(jacobian, _is_block)
    is_tree = bool(blocks) and all(map(_is_block, blocks)) and whole != tree_structure(0)
    if isinstance(jacobian, MatrixInterface) or not is_tree or len(blocks) % len(shapes):
        return jacobian

    def is_row(node: Any) -> bool:
        return flattened(node, _is_block)[1] == inputs

    outputs = tree_structure(mapped(lambda _: 0, jacobian, is_row))
    is_fitting = outputs.num_leaves * len(shapes) == len(blocks)
    return matrix_of_tree(jacobian, outputs, inputs) if is_fitting else jacobian


def matrix_of_tree(tree: Any, outputs: Any, inputs: Any) -> BlockMatrix:
    """A tree of blocks as one matrix.

    Args:
        tree: with the tree `inputs` in place of each leaf of `outputs`.
        outputs: the tree of the matrix's outputs.
        inputs: that of its inputs.
    """
    blocks, _ = flattened(tree, _is_block)
    width = inputs.num_leaves
    rows = [blocks[start : start + width] for start in range(0, len(blocks), width)]
    return BlockMatrix(rows, outputs, inputs)


def _is_block(node: Any) -> bool:
    return isinstance(node, Block)
