"""Pictures of patterns: each dot stands where an entry is."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import blockjac
from blockjac.blocks import Block, BlockMatrix
from blockjac.errors import MissingExtraError
from blockjac.sparsity.pattern import Pattern
from blockjac.sparsity.spy import BITS, BRAILLE, in_braille


def dots(lines):
    """The dots of braille lines as an array of booleans, by Unicode's numbering of them."""
    bit = np.array([[1, 4], [2, 5], [3, 6], [7, 8]]) - 1
    codes = np.array([[ord(char) - 0x2800 for char in line] for line in lines])
    cells = codes[:, None, :, None] >> bit[None, :, None, :] & 1
    return cells.reshape(4 * len(lines), -1).astype(bool)


def pattern_of(rows, columns, shape):
    return Pattern(np.asarray(rows, np.int64), np.asarray(columns, np.int64), shape)


@given(st.integers(1, 90), st.integers(1, 100), st.integers(0, 2**32 - 1))
def test_a_dot_is_an_entry(rows, columns, seed):
    """What fits is drawn one to one."""
    wanted = np.random.default_rng(seed).random((rows, columns)) < 0.2
    found = dots(in_braille(pattern_of(*np.nonzero(wanted), wanted.shape)))
    np.testing.assert_array_equal(found[:rows, :columns], wanted)
    assert not found[rows:].any()
    assert not found[:, columns:].any()


@pytest.mark.parametrize("shape", [(5000, 5000), (200, 100_000), (10**9, 3), (2**62, 2**62)])
def test_a_large_pattern_is_made_smaller_and_loses_no_entry(shape):
    last = min(shape) - 1
    for row, column in ((0, 0), (shape[0] - 1, shape[1] - 1), (last, last)):
        lines = in_braille(pattern_of([row], [column], shape))
        assert len(lines) <= 24
        assert {len(line) for line in lines} <= set(range(1, 61))
        assert dots(lines).sum() == 1


def test_printed():
    assert str(Block.identity(4).pattern()) == "4 of 16 places in 4 x 4\n⠑⢄"
    block = blockjac.block_jacobian(lambda x: x[2:] + x[:-2] * x[1:-1])(jnp.ones(10))
    head, *lines = str(block.pattern()).splitlines()
    assert head == "24 of 80 places in 8 x 10"
    np.testing.assert_array_equal(dots(lines), np.tri(8, 10, 2) - np.tri(8, 10, -1))
    assert repr(block.pattern()) == "Pattern(shape=(8, 10), nnz=24)"
    assert str(Block.zeros((0,), (3,)).pattern()) == "0 of 0 places in 0 x 3"
    assert BITS.sum() + BRAILLE == ord("⣿")


def test_bandwidth():
    block = blockjac.block_jacobian(lambda x: x[3:] + x[:-3])(jnp.ones(10))
    assert block.pattern().bandwidth == (0, 3)
    assert block.T.pattern().bandwidth == (3, 0)
    assert Block.zeros((3,), (3,)).pattern().bandwidth == (0, 0)


# With matplotlib


def shades(ax):
    """The picture's cells: 0 is no entry."""
    (image,) = ax.get_images()
    return np.asarray(image.get_array())


def test_spy_draws_the_places():
    block = blockjac.block_jacobian(lambda x: (x[1:] - x[:-1]) ** 2)(jnp.ones(5))
    (ax,) = block.spy().axes
    np.testing.assert_array_equal(shades(ax) > 0, np.asarray(block.dense() != 0) | _stencil(4, 5))
    assert "8 entries in 4 × 5 (40.00%)" in ax.get_title()
    (image,) = ax.get_images()
    left, right, bottom, top = image.get_extent()
    assert (left, right, bottom, top) == (-0.5, 4.5, 3.5, -0.5)  # row 0 is above


def _stencil(rows, columns):
    return np.eye(rows, columns, dtype=bool) | np.eye(rows, columns, 1, dtype=bool)


def test_spy_shades_cells_of_many_places():
    size = 5000
    corner = BlockMatrix(
        [[Block.identity(size), None], [None, Block.from_dense(jnp.ones((10, 10)), 1)]]
    )
    found = shades(*corner.spy().axes)
    assert max(found.shape) <= 250
    assert (np.diagonal(found) > 0.3).all()
    assert found[-1, -1] == found.max() == 1.0
    off = found - np.diag(np.diagonal(found))
    assert np.count_nonzero(off[:-3, :-3]) < 0.01 * found.size


def test_spy_separates_and_names_the_leaves_of_a_grid():
    params = {"W": jnp.ones((3, 2)), "b": jnp.ones(2)}

    def fun(params, x):
        return {"affine": x @ params["W"] + params["b"], "norm": jnp.sum(params["W"] ** 2)}

    tree = blockjac.block_jacobian(fun)(params, jnp.ones((4, 3)))
    rows = [[tree[out]["W"], tree[out]["b"]] for out in ("affine", "norm")]
    out_tree = jax.tree.structure({"affine": 0, "norm": 0})
    (ax,) = BlockMatrix(rows, out_tree, jax.tree.structure(params)).spy().axes
    assert [label.get_text() for label in ax.get_xticklabels()] == ["['W']", "['b']"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["['affine']", "['norm']"]
    np.testing.assert_array_equal(ax.get_xticks(), [2.5, 6.5])
    ends = sorted(tuple(line.get_xydata()[0]) for line in ax.get_lines())
    assert ends == [(0.0, 7.5), (5.5, 0.0)]


def test_spy_of_a_block_has_no_lines():
    (ax,) = Block.identity((2, 3)).spy().axes
    assert not ax.get_lines()


def test_spy_into_given_axes_and_of_nothing():
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2)
    assert Block.identity(3).spy(left) is left
    assert Block.zeros((0,), (4,)).pattern().spy(right) is right
    assert not shades(right).any()
    pyplot.close("all")
    assert figure.axes == [left, right]


def test_pyplot_knows_nothing_of_a_new_figure():
    from matplotlib import pyplot

    pyplot.close("all")
    figure = Block.identity(3).spy()
    assert not pyplot.get_fignums()
    assert figure._repr_png_().startswith(b"\x89PNG")
    assert figure.figure is figure  # .figure.savefig was the way when spy() gave the axes


@pytest.mark.slow
def test_spy_imports_no_pyplot():
    code = "import sys, blockjac; blockjac.Block.identity(3).spy(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "matplotlib.figure" in done.stdout.split()
    assert "matplotlib.pyplot" not in done.stdout.split()


def test_without_matplotlib(monkeypatch):
    monkeypatch.delitem(sys.modules, "blockjac.base.notebook_figure", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"blockjac\[app\]"):
        Block.identity(3).spy()
