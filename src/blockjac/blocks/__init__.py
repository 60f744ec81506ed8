"""The block algebra: labels, index expressions, factors, terms, blocks, and their contraction."""

from blockjac.blocks.block import Block, Term
from blockjac.blocks.factor import Factor
from blockjac.blocks.index import Index, Label, Lookup
from blockjac.blocks.matrix import BlockMatrix
from blockjac.blocks.star import add, star

__all__ = ["Block", "BlockMatrix", "Factor", "Index", "Label", "Lookup", "Term", "add", "star"]
