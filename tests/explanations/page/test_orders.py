"""The model of cost counts what the planner counts, in any order."""

import random

import jax
import pytest
from support.explained_functions import FUNCTIONS, explained
from support.page_model.elimination import cheapest, spent
from support.random_functions import random_function

import blockjac
from blockjac.blocks import Block
from blockjac.elimination.elimination_graph import EliminationGraph
from blockjac.planning.price import price


def planned(parts, order):
    """The multiplications that the planner predicts for the same Blocks in the same order."""
    graph, game = parts.graph, parts.game
    vertices, edges = graph.vertices, EliminationGraph()
    inner = set(game.inner)

    def named(vertex):
        is_argument = vertex < len(vertices) and vertices[vertex].step is None
        return vertex if vertex in inner or is_argument else ("out", vertex)

    for edge, own in zip(graph.edges, parts.blocks, strict=True):
        if not own.block.is_zero:
            edges.add(edge.tail, named(edge.head), own.block)
    for result, vertex in game.results.items():
        edges.same.add((vertex, named(result)))
        edges.add(vertex, named(result), Block.identity(vertices[vertex].variable.axes, float))
    return price(edges, order, write=True).multiplications


def orders_of(game, seed):
    inner = list(game.inner)
    yield inner
    yield inner[::-1]
    yield cheapest(game)
    for number in range(6):
        shuffled = list(inner)
        random.Random(seed + number).shuffle(shuffled)
        yield shuffled


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_order_costs_what_the_planner_predicts(name):
    parts = explained(name).page_parts
    for order in orders_of(parts.game, 0):
        assert sorted(order) == sorted(parts.game.inner)
        assert sum(spent(parts.game, order)) == planned(parts, order), order


@pytest.mark.slow
def test_orders_of_random_programs_cost_about_what_the_planner_predicts():
    # They look places up in arrays, which the planner lists and the model does not.
    same = total = 0
    for seed in range(16):
        function, x = random_function(seed)
        parts = blockjac.explain(function)(x).page_parts
        for order in orders_of(parts.game, seed):
            counted, wanted = sum(spent(parts.game, order)), planned(parts, order)
            assert 0.5 * wanted - 5 <= counted <= 2 * wanted + 5, (seed, order)
            same += counted == wanted
            total += 1
    assert same > 0.6 * total


def test_backwards_is_cheap_for_one_number_and_forwards_for_one_argument():
    def layers(x):
        return (MATRIX @ jax.numpy.sin(MATRIX @ jax.numpy.sin(MATRIX @ x))).sum()

    gradient = blockjac.explain(layers)(MATRIX[0])
    game = gradient.page_parts.game
    assert sum(spent(game, game.inner[::-1])) < sum(spent(game, game.inner))
    curve = blockjac.explain(lambda t: MATRIX @ jax.numpy.sin(MATRIX @ (t * MATRIX[0])))(0.5)
    game = curve.page_parts.game
    assert sum(spent(game, game.inner)) < sum(spent(game, game.inner[::-1]))


MATRIX = jax.random.normal(jax.random.key(0), (4, 4))


def test_a_product_is_counted_by_hand():
    # D f = B A along two lines: 2 * 3 * 4 products to form it, none to write it out.
    A, B = jax.numpy.ones((3, 4)), jax.numpy.ones((2, 3))
    game = blockjac.explain(lambda x: B @ (A @ x))(jax.numpy.ones(4)).page_parts.game
    assert spent(game, game.inner) == [24, 0]
