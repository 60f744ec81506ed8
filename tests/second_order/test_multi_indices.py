"""Multi-indices, beside derivatives of polynomials."""

import math

import numpy as np
import pytest

from blockjac.second_order.multi_indices import (
    below,
    binomial,
    closed,
    minus,
    splits,
    without_rarest,
)

INDICES = [(1,), (4,), (2, 1), (0, 3), (2, 2), (1, 0, 2), (1, 1, 1)]


@pytest.mark.parametrize("index", INDICES)
@pytest.mark.parametrize("count", [1, 2, 3])
def test_shares_are_those_of_a_product(index, count):
    """`d^a (x1 ... xk)^n` at 1 of `count` factors alike, each a product of powers."""
    powers = [5 + n for n in range(len(index))]

    def derivative(powers, index):
        return math.prod(map(math.perm, powers, index))

    total = sum(
        ways * math.prod(derivative(powers, share) for share in shares)
        for ways, shares in splits(index, count)
    )
    assert total == derivative([count * power for power in powers], index)
    assert all(tuple(np.sum(shares, axis=0)) == index for _, shares in splits(index, count))


@pytest.mark.parametrize("index", INDICES)
def test_all_that_is_below_is_there(index):
    orders = closed([index])
    every = {lower for order in orders for lower in order}
    assert every == {lower for lower in below(index) if any(lower)}
    assert [sum(lower) for order in orders for lower in order] == sorted(map(sum, every))
    rest = without_rarest(index)
    assert sum(minus(index, rest)) == 1
    others = [
        tuple(np.subtract(index, unit))
        for unit in np.eye(len(index), dtype=int)
        if np.all(np.subtract(index, unit) >= 0)
    ]
    assert len([*below(rest)]) == min(len([*below(other)]) for other in others)


def test_nothing_but_values():
    assert closed([(0, 0)]) == []
    assert binomial((4, 2), (2, 1)) == 12
