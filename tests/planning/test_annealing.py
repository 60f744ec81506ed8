"""The search: never worse than where it starts, the same for the same seed, exact in its count."""

import itertools

import jax
import numpy as np
import pytest
from support.kernels import DIPOLE, LIGHTHOUSE, dipole, lighthouse

import blockjac
from blockjac import Search
from blockjac.errors import OrderError

KERNELS = {"dipole": (dipole, DIPOLE), "lighthouse": (lighthouse, LIGHTHOUSE)}


def counts(name, order):
    function, arguments = KERNELS[name]
    return blockjac.plan(function, tuple(range(len(arguments))), order=order)(*arguments)


@pytest.mark.parametrize("name", KERNELS)
def test_a_search_finds_fewer_products(name):
    found = counts(name, Search(steps=4_000))
    rivals = [counts(name, order).edge_products for order in ("reverse", "forward", "greedy")]
    assert found.edge_products < min(rivals[:2])
    assert found.edge_products <= min(rivals)


@pytest.mark.slow
def test_the_least_of_the_lighthouse():
    """All orders of its few vertices, tried one by one."""
    reverse = counts("lighthouse", "reverse")
    every = [
        counts("lighthouse", order).edge_products for order in itertools.permutations(reverse.order)
    ]
    assert counts("lighthouse", Search(steps=2_000)).edge_products == min(every)


def test_the_same_seed_gives_the_same_order():
    one, same = (counts("dipole", Search(steps=2_000, seed=3)).order for _ in range(2))
    assert one == same


@pytest.mark.slow
def test_no_steps_and_no_time_give_the_best_of_the_others():
    rivals = min(
        counts("dipole", order).edge_products for order in ("reverse", "forward", "greedy")
    )
    assert counts("dipole", Search(steps=0)).edge_products <= rivals
    assert counts("dipole", Search(seconds=0.0)).edge_products <= rivals


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["edge_products", "multiplications", "seconds"])
def test_each_objective_is_at_most_that_of_the_others(objective):
    found = counts("dipole", Search(steps=1_000, objective=objective))
    for order in ("reverse", "forward"):
        rival = counts("dipole", order).figures
        assert getattr(found.figures, objective) <= getattr(rival, objective)


@pytest.mark.parametrize("name", KERNELS)
def test_the_order_gives_the_jacobian(name):
    function, arguments = KERNELS[name]
    argnums = tuple(range(len(arguments)))
    found = blockjac.jacobian(function, argnums, order=Search(steps=500))(*arguments)
    wanted = jax.jit(jax.jacrev(function, argnums))(*arguments)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)


def test_wrong_searches_are_refused():
    with pytest.raises(OrderError, match=r"at least 0, but has steps=-1 and seconds=None"):
        Search(steps=-1)
    with pytest.raises(OrderError, match=r"'time', but must be one of 'edge_products'"):
        Search(objective="time")
