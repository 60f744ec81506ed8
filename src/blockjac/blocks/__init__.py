"""The block algebra: labels, index expressions, factors, terms, blocks, and their contraction."""

from blockjac.algebra.sums import add
from blockjac.blocks import operations
from blockjac.blocks.block_matrix import BlockMatrix
from blockjac.blocks.contraction import star
from blockjac.blocks.factorization import Factorization, factorize, solve
from blockjac.blocks.least_squares import lstsq
from blockjac.terms.block import Block
from blockjac.terms.factor import Factor
from blockjac.terms.index import Index, Label, Lookup
from blockjac.terms.operations import bind
from blockjac.terms.term import Term

__all__ = [
    "Block",
    "BlockMatrix",
    "Factor",
    "Factorization",
    "Index",
    "Label",
    "Lookup",
    "Term",
    "add",
    "factorize",
    "lstsq",
    "solve",
    "star",
]

bind(operations)
