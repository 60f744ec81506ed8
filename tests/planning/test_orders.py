"""Planning: which order "auto" takes, and that it is the one predicted to be cheapest."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.chains import chain, planned

import blockjac
from blockjac.algebra.cost import OverBudget
from blockjac.planning.candidates import greedy_order
from blockjac.planning.orders import MARGIN, choose_order
from blockjac.planning.price import price
from public_problems import hands


def predicted(fun, x):
    """The predicted seconds of each order, and of the one that "auto" takes."""
    linear = planned(fun, x)
    reverse = linear.active.reverse_order
    orders = {
        "reverse": reverse,
        "forward": linear.active.forward_order,
        "greedy": greedy_order(linear.edges, reverse),
        "auto": choose_order("auto", linear, write=True),
    }
    return {
        name: price(linear.edges, order, write=True).seconds() for name, order in orders.items()
    }


CHAINS = {
    "wide-in": (chain(200, 100, 50, 2, activation=lambda x: x), "reverse"),
    "wide-out": (chain(2, 50, 100, 200), "forward"),
    "hourglass": (chain(50, 2, 50, 4, 30), "greedy"),
    "two-waists": (chain(40, 40, 3, 40, 40, 3, 40), "auto"),
}


@pytest.mark.parametrize("name", CHAINS)
def test_each_order_wins_where_it_must(name):
    (fun, x), winner = CHAINS[name]
    costs = predicted(fun, x)
    least = min(costs[order] for order in ("reverse", "forward", "greedy"))
    assert costs["auto"] <= least / MARGIN
    assert costs[winner] == min(costs.values())
    assert max(costs["reverse"], costs["forward"]) > 1.1 * least


def test_wide_inputs_and_wide_outputs_want_opposite_directions():
    costs = predicted(*chain(200, 100, 50, 2))
    assert costs["forward"] > 2 * costs["reverse"]
    costs = predicted(*chain(2, 50, 100, 200))
    assert costs["reverse"] > 2 * costs["forward"]


def test_the_hourglass_is_cheaper_from_its_waist_than_from_either_end():
    costs = predicted(*chain(50, 2, 50, 4, 30))
    assert costs["greedy"] < 0.9 * min(costs["reverse"], costs["forward"])


@pytest.mark.parametrize("name", CHAINS)
def test_auto_gives_the_jacobian(name):
    (fun, x), _ = CHAINS[name]
    np.testing.assert_allclose(
        blockjac.jacobian(fun)(x), jax.jit(jax.jacrev(fun))(x), rtol=1e-10, atol=1e-12
    )


def test_a_gradient_goes_backwards():
    fun, x = chain(20, 10, 5)
    linear = planned(lambda x: jnp.sum(fun(x)), x)
    assert choose_order("auto", linear, write=True) == linear.active.reverse_order


@pytest.mark.slow
@pytest.mark.parametrize("points", [1_000, 4_000, 12_800, 50_000])
def test_the_longer_a_program_runs_the_more_is_spent_on_its_order(points):
    """A skinned surface of 300 operations, of which many points look theirs up."""
    hand = hands.hand(points)
    costs = predicted(lambda theta: hands.simple(theta, hand), hands.arguments(points)[0])
    assert costs["auto"] <= min(costs["forward"], costs["greedy"]) / MARGIN


def test_planning_leaves_the_edges_alone():
    linear = planned(*chain(4, 3, 2))
    before = {tail: list(heads) for tail, heads in linear.edges.leaving.items()}
    choose_order("auto", linear, write=True)
    assert {tail: list(heads) for tail, heads in linear.edges.leaving.items()} == before


def test_an_order_over_the_budget_is_given_up():
    linear = planned(*chain(4, 3, 2))
    reverse = linear.active.reverse_order
    with pytest.raises(OverBudget):
        price(linear.edges, reverse, write=True, limit=60)
    with pytest.raises(OverBudget):
        price(linear.edges, reverse, write=True, bound=1e-9)
    with pytest.raises(OverBudget):
        greedy_order(linear.edges, reverse, limit=60)
    with pytest.raises(OverBudget):
        greedy_order(linear.edges, reverse, bound=1e-9)


def test_each_vertex_is_eliminated_once():
    linear = planned(*chain(4, 3, 2))
    reverse = linear.active.reverse_order
    assert sorted(greedy_order(linear.edges, reverse)) == sorted(reverse)
    assert len(set(reverse)) == len(reverse)


@pytest.mark.slow
def test_the_effort_of_planning_grows_with_the_depth_and_no_faster():
    efforts = []
    for depth in (200, 400):
        linear = planned(*chain(*([6] * depth)))
        order = choose_order("auto", linear, write=True)
        efforts.append(price(linear.edges, order, write=True).effort)
    assert efforts[1] <= 2.1 * efforts[0]


# Orders of the user's own


def by_degree(edges, vertices):
    """Always a vertex with the fewest edges, on a graph that is used up."""
    order = []
    while len(order) < len(vertices):
        vertex = min(
            (vertex for vertex in vertices if vertex not in order),
            key=lambda vertex: len(edges.entering[vertex]) + len(edges.leaving[vertex]),
        )
        order.append(vertex)
        edges.remove(vertex)
        edges.entering[vertex] = edges.leaving[vertex] = {}
    return order


@pytest.mark.slow
@pytest.mark.parametrize("transform", [blockjac.jacobian, blockjac.hessian])
def test_a_function_is_an_order(transform):
    (fun, x), _ = chain(4, 3, 5, 2), None
    scalar = fun if transform is blockjac.jacobian else lambda x: jnp.sum(jnp.sin(fun(x)))
    own = {blockjac.jacobian: jax.jacrev, blockjac.hessian: jax.hessian}[transform](scalar)(x)
    np.testing.assert_allclose(transform(scalar, order=by_degree)(x), own, rtol=1e-9, atol=1e-11)


def test_a_plan_by_a_function_has_its_name_and_its_vertices():
    fun, x = chain(4, 3, 2)
    asked = []

    def forwards(edges, vertices):
        asked.append(len(vertices))
        edges.leaving.clear()  # a copy
        return list(vertices)[::-1]

    plan = blockjac.plan(fun, order=forwards)(x)
    assert plan.method == "forwards"
    assert plan.order == blockjac.plan(fun, order="forward")(x).order
    assert asked
    assert set(asked) == {len(plan.order)}


@pytest.mark.parametrize(
    ("order", "message"),
    [
        (lambda edges, vertices: vertices[1:], r"each of the \d+ vertices.*missing: "),
        (lambda edges, vertices: [*vertices, vertices[0]], r"twice: "),
        (lambda edges, vertices: None, r"order=<lambda> must return the vertices.*returned None"),
        (lambda edges, vertices: ["a"], r"must return the vertices.*returned \['a'\]"),
        (blockjac.Search, r"order is <class .*Search'>, but must be one of 'auto'"),
    ],
)
def test_a_function_that_finds_no_order_is_refused(order, message):
    fun, x = chain(4, 3, 2)
    with pytest.raises(ValueError, match=message):
        blockjac.jacobian(fun, order=order)(x)
