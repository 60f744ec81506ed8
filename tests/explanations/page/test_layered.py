"""Layouts: no box on another, edges downwards, few crossings, quick for large graphs."""

import itertools
import random

import numpy as np
import pytest
from support.explained_functions import explained

from blockjac.explanations.page.drawing import HEIGHT
from blockjac.explanations.page.layered import GAP, layered
from blockjac.explanations.page.lines import LABEL_HEIGHT, LABEL_LETTER, along, label_places
from blockjac.explanations.page.step_graph import bundles, chains


def random_graph(seed, count=40):
    generator = random.Random(seed)
    edges = {(generator.randrange(head), head) for head in range(1, count) for _ in range(2)}
    return [generator.uniform(20, 120) for _ in range(count)], sorted(edges)


@pytest.mark.parametrize("seed", range(20))
def test_boxes_do_not_overlap_and_edges_go_down(seed):
    widths, edges = random_graph(seed)
    layout = layered(widths, edges)
    for tail, head in edges:
        assert layout.layer[tail] < layout.layer[head]
    for vertex, width in enumerate(widths):
        assert layout.x[vertex] - width / 2 >= -1e-6
        assert layout.x[vertex] + width / 2 <= layout.width + 1e-6
        for other in range(vertex):
            if layout.layer[vertex] == layout.layer[other]:
                apart = abs(layout.x[vertex] - layout.x[other])
                assert apart >= (width + widths[other]) / 2 + GAP - 1e-6
    for (tail, head), bends in zip(edges, layout.bends, strict=True):
        levels = [layout.layer[tail], *(level for _, level in bends), layout.layer[head]]
        assert levels == list(range(levels[0], levels[-1] + 1))


@pytest.mark.parametrize("seed", range(20))
def test_lines_that_pass_a_layer_do_not_run_through_its_boxes(seed):
    widths, edges = random_graph(seed)
    layout = layered(widths, edges)
    for bends in layout.bends:
        for x, level in bends:
            for vertex, width in enumerate(widths):
                if layout.layer[vertex] == level:
                    assert abs(x - layout.x[vertex]) > width / 2


def test_a_chain_is_a_straight_line():
    layout = layered([50.0] * 9, [(n, n + 1) for n in range(8)])
    assert len(set(layout.x)) == 1
    assert layout.layer == tuple(range(9))


def test_a_crossing_that_can_be_avoided_is_avoided():
    layout = layered([30.0] * 6, [(0, 3), (0, 4), (1, 3), (2, 5), (1, 4)])
    x = layout.x
    pairs = [(0, 3), (1, 4), (2, 5)]
    below = sorted(pairs, key=lambda pair: x[pair[0]])
    assert [x[head] for _, head in below][-1 if x[2] > x[0] else 0] == x[5]


def test_sources_stand_above_what_reads_them():
    layout = layered([30.0] * 5, [(0, 1), (1, 2), (2, 4), (3, 4)])
    assert layout.layer[3] == layout.layer[4] - 1


def test_thousands_of_vertices_with_long_edges_are_laid_out():
    count = 2000
    edges = [(n, n + 1) for n in range(count - 1)] + [(n, count - 1) for n in range(0, count, 7)]
    layout = layered([40.0] * count, edges)
    assert layout.layers == count
    assert sum(map(len, layout.bends)) <= 4000


def test_nothing_and_single_vertices_are_laid_out():
    assert layered([], []).layers == 0
    assert layered([10.0], []).x == (5.0,)


def test_a_chain_is_folded_between_a_fork_and_a_join():
    edges = [(0, 1), (1, 2), (2, 3), (0, 4), (4, 5), (3, 5), (5, 6), (6, 7)]
    assert chains(8, edges) == [[0], [1, 2, 3], [4], [5], [6], [7]]


@pytest.mark.parametrize("seed", range(10))
def test_folded_graphs_have_no_circle(seed):
    _, edges = random_graph(seed, 200)
    for groups in (chains(200, edges), bundles(200, 3, {50, 199}, 12)):
        assert sorted(vertex for group in groups for vertex in group) == list(range(200))
        number = {vertex: n for n, group in enumerate(groups) for vertex in group}
        assert all(number[tail] <= number[head] for tail, head in edges)
    assert [50] in groups
    assert [199] in groups
    assert [0, 1, 2] in groups


@pytest.mark.parametrize("name", ["lecture", "residual network", "attention", "layer norm"])
def test_labels_stand_on_their_lines_and_on_nothing_else(name):
    drawn = explained(name).page_parts.drawing
    places = label_places(drawn)
    half = [len(line.text) * LABEL_LETTER / 2 for line in drawn.lines]
    for number, (x, y) in enumerate(places):
        for other in range(number):
            u, v = places[other]
            assert abs(x - u) >= half[number] + half[other] or abs(y - v) >= LABEL_HEIGHT
        for box in drawn.boxes:
            is_beside = abs(x - box.x) >= half[number] + box.width / 2
            assert is_beside or abs(y - box.y) >= (LABEL_HEIGHT + HEIGHT) / 2
        points = drawn.lines[number].points
        assert (
            min(
                np.hypot(along(*part, share)[0] - x, along(*part, share)[1] - y)
                for part in itertools.pairwise(points)
                for share in np.linspace(0, 1, 201)
            )
            < 1
        )


def test_points_along_a_line_are_those_of_the_bezier_curve_that_is_drawn():
    start, end = np.array([3.0, 10.0]), np.array([40.0, 90.0])
    controls = np.array([start, [start[0], 50.0], [end[0], 50.0], end])
    for share in np.linspace(0, 1, 7):
        points = controls
        while len(points) > 1:  # de Casteljau
            points = (1 - share) * points[:-1] + share * points[1:]
        np.testing.assert_allclose(along(tuple(start), tuple(end), share), points[0], atol=1e-12)
