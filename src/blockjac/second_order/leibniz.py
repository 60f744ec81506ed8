"""The rule of Leibniz for Blocks: derivatives of what is a product of several arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from blockjac.algebra.curved import replaced
from blockjac.algebra.sums import summed
from blockjac.blocks import Block, Term
from blockjac.second_order.multi_indices import MultiIndex, splits

Derivatives = Mapping[MultiIndex, Block]
"""The derivatives of one value, as Blocks of its shape by nothing; those that are zero are left
out."""


def derivative_times(
    block: Block, rates: Mapping[int, Derivatives], index: MultiIndex, tangent: Block
) -> Block | None:
    """The product of a block's derivative with a tangent; None if it is zero.

    Args:
        block: the block.
        rates: the derivatives of its arrays, by the identity of the array.
        index: which derivative.
        tangent: of its input.
    """
    terms: list[Term] = []
    for term in block.terms:
        places = [n for n, factor in enumerate(term.factors) if id(factor.array) in rates]
        for ways, shares in splits(index, len(places)) if places else ():
            moved = {
                place: share for place, share in zip(places, shares, strict=True) if any(share)
            }
            own = {
                place: rates[id(term.factors[place].array)].get(share)
                for place, share in moved.items()
            }
            known = {place: rate for place, rate in own.items() if rate is not None}
            if len(known) == len(own):
                terms += [
                    replace(product, coefficient=ways * product.coefficient)
                    for product in replaced(block, term, known, tangent)
                ]
    return summed(block.out_shape, (), tangent.dtype, terms) if terms else None
