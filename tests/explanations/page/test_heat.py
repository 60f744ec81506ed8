"""Pictures of Blocks show the dense Jacobian, which they never write."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.explained_functions import FUNCTIONS, explained
from support.page_model.elimination import spent

import blockjac
from blockjac.blocks import Block
from blockjac.explanations.page.heat import CODES, LEVELS, heat


def decoded(picture):
    """The numbers that a picture shows, each with an error of half a shade; None for no entry."""
    codes = np.array([CODES.index(letter) for letter in picture.cells])
    shade = (codes - 1 - LEVELS) / LEVELS
    values = np.where(codes == 0, 0.0, np.sign(shade) * shade**2 * picture.scale)
    return values.reshape(picture.down, picture.across), (codes > 0).reshape(
        picture.down, picture.across
    )


def pooled(dense, down, across):
    """The largest and the least entry of each cell, zeros included."""
    largest, least = np.zeros((down, across)), np.zeros((down, across))
    for (i, j), entry in np.ndenumerate(dense):
        cell = i * down // dense.shape[0], j * across // dense.shape[1]
        largest[cell], least[cell] = max(largest[cell], entry), min(least[cell], entry)
    return largest, least


def check(block, dense, side):
    picture = heat(block, side)
    dense = np.asarray(dense).reshape(picture.rows, picture.columns)
    values, has_entry = decoded(picture)
    largest, least = pooled(dense, picture.down, picture.across)
    size = np.maximum(largest, -least)
    assert picture.scale == pytest.approx(size.max())
    shown = np.sqrt(np.abs(values) / max(picture.scale, 1e-300))
    wanted = np.sqrt(size / max(picture.scale, 1e-300))
    assert np.abs(shown - wanted).max() <= 1 / LEVELS + 1e-9
    # Of two entries of the same size but for rounding, either may be shown.
    of_sign = np.where(values > 0, largest, -least)
    np.testing.assert_allclose(of_sign, size, rtol=1e-9)
    assert has_entry[size > 0].all()
    return picture


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("side", [48, 5])
def test_pictures_show_the_dense_blocks(name, side):
    for own in explained(name).page_parts.blocks:
        check(own.block, own.block.dense(), side)


def test_a_block_of_the_page_is_what_jax_differentiates():
    x = jnp.arange(1.0, 5.0)
    (own,) = blockjac.explain(lambda x: jnp.cumsum(x))(x).page_parts.blocks
    picture = check(own.block, jax.jacfwd(jnp.cumsum)(x), 48)
    assert picture.cells == "_000__00___0____".replace("0", picture.cells[1])


def test_empty_cells_and_zeros_are_told_from_each_other():
    block = Block.diag(jnp.array([2.0, 0.0, -2.0]))
    picture = heat(block)
    assert picture.cells == "".join(
        CODES[code] for code in (1 + 2 * LEVELS, 0, 0, 0, 1 + LEVELS, 0, 0, 0, 1)
    )


def test_a_diagonal_of_millions_of_entries_is_drawn_from_its_stored_numbers():
    picture = heat(Block.diag(jnp.ones(100_000)))
    assert (picture.rows, picture.columns) == (100_000, 100_000)
    _, has_entry = decoded(picture)
    assert (has_entry == np.eye(48, dtype=bool)).all()


def test_what_is_too_large_is_left_out():
    assert heat(Block.from_dense(np.broadcast_to(1.0, (3000, 3000)), 1)) is None
    assert heat(Block.zeros((0,), (3,))) is None


def test_a_program_too_large_to_run_has_structure_and_no_picture(monkeypatch):
    small = explained("lecture").page_parts
    monkeypatch.setattr("blockjac.explanations.numbers.MOST_VALUES", 10)
    large = explained("lecture").page_parts
    assert [own.block.structure for own in large.blocks] == [
        own.block.structure for own in small.blocks
    ]
    assert [own.block.stored for own in large.blocks] == [own.block.stored for own in small.blocks]
    order = large.game.inner
    assert spent(large.game, order) == spent(small.game, order)
    assert [heat(own.block) is None for own in large.blocks] == [
        bool(own.block.stored) for own in large.blocks
    ]


def test_places_looked_up_in_a_program_too_large_to_run_have_no_picture(monkeypatch):
    monkeypatch.setattr("blockjac.explanations.numbers.MOST_VALUES", 10)
    explanation = blockjac.explain(lambda x, i: x[i])(jnp.arange(20.0), jnp.arange(5))
    pictures = [heat(own.block) for own in explanation.page_parts.blocks]
    assert pictures
    assert not any(pictures)
    assert "<svg" in explanation.html()


def test_shapes_far_beyond_memory_have_a_graph():
    shape = jax.ShapeDtypeStruct((2_000_000, 1_000_000), jnp.float32)
    explanation = blockjac.explain(lambda W: jnp.sum(jnp.tanh(W) ** 2))(shape)
    assert "diagonal" in explanation.svg()
    assert "2000000×1000000" in explanation.dot()
