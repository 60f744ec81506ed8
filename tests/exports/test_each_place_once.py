"""The values of entries become those of places, whatever the order of the entries."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from blockjac.exports import each_place_once as module
from blockjac.exports.each_place_once import LONG_RUN, MAX_RUNS, each_place_once
from blockjac.sparsity.pattern import Arrangement, Pattern

COLUMNS = 50


def arrangement_of(places):
    """The arrangement of entries at places that are given one by one, -1 for no place."""
    order = np.lexsort([np.arange(len(places)), places])
    order = order[places[order] >= 0]
    distinct, starts, counts = np.unique(places[order], return_index=True, return_counts=True)
    rows, columns = np.divmod(distinct, COLUMNS)
    pattern = Pattern(rows, columns, (int(places.max()) // COLUMNS + 1, COLUMNS))
    return Arrangement(pattern, order, None if (counts == 1).all() else starts)


def assert_right(places):
    """Values and places give the matrix that adds the entries one by one, sorted or not."""
    places = np.asarray(places)
    numbers = np.random.default_rng(0).normal(size=len(places))
    arranged = arrangement_of(places)
    exact = np.zeros(arranged.pattern.shape)
    inside = places >= 0
    np.add.at(exact, np.divmod(places[inside], COLUMNS), numbers[inside])
    for sort in (False, True):
        once = each_place_once(arranged, sort=sort)
        values = jax.jit(once.values)(jnp.asarray(numbers))
        matrix = np.zeros(once.pattern.shape)
        matrix[once.pattern.rows, once.pattern.columns] = values
        assert len(once.pattern.rows) == len(arranged.pattern.rows)
        np.testing.assert_allclose(matrix, exact, atol=1e-13)
        flat = once.pattern.rows * COLUMNS + once.pattern.columns
        assert once.is_sorted == bool((np.diff(flat) > 0).all())


@pytest.mark.parametrize("count", [1, LONG_RUN - 1, LONG_RUN, 3 * LONG_RUN])
@pytest.mark.parametrize("shared", [0, 7])
def test_runs_of_every_length_with_places_that_are_shared(count, shared):
    generator = np.random.default_rng(count + shared)
    runs = generator.permutation(2 * count)
    scattered = generator.integers(0, max(1, shared // 3), shared) + 2 * count
    assert_right(np.concatenate([np.arange(count), scattered, count + runs, runs[:2]]))


@pytest.mark.parametrize("runs", [1, MAX_RUNS, MAX_RUNS + 1])
def test_any_number_of_runs(runs, monkeypatch):
    monkeypatch.setattr(module, "LONG_RUN", 2)
    starts = 10 * np.random.default_rng(runs).permutation(runs)
    assert_right(np.concatenate([[start, start + 1, start + 2, 0] for start in starts]))


def test_entries_off_the_matrix_and_none_at_all():
    assert_right(np.array([4, -1, 3, 3, -1, 0]))
    assert_right(np.array([-1, 5]))
    none = Arrangement(
        Pattern(np.zeros(0, int), np.zeros(0, int), (3, COLUMNS)), np.zeros(0, int), None
    )
    assert each_place_once(none).values(jnp.zeros(4)).shape == (0,)


@pytest.mark.slow
def test_the_order_of_entries_is_kept_where_places_are_scattered():
    """A grid of power lines: off the diagonal one entry per place, on it one for each line."""
    generator = np.random.default_rng(0)
    lines = 5 * LONG_RUN
    ends = generator.integers(0, COLUMNS, (2, lines))
    places = np.concatenate([COLUMNS + np.arange(lines), ends[0], ends[1]])
    program = jax.make_jaxpr(each_place_once(arrangement_of(places)).values)(jnp.ones(len(places)))
    names = [equation.primitive.name for equation in program.eqns]
    assert "gather" not in str(names)
    assert_right(places)
