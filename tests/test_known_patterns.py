"""Random programs whose pattern is known by construction keep it, in all the words of NumPy."""

import jax
import numpy as np
import pytest
from support.pattern_steps import (
    KINDS,
    Composition,
    composed,
    composition,
    pieces,
    put,
    rows_taken,
    segments,
    sliced,
    steps_of_a_scan,
    windows,
)
from support.sampling import sampled

import blockjac


def check_values(program: Composition) -> blockjac.Block:
    """The block has the values that JAX gives, and an entry wherever one may be."""
    block = blockjac.block_jacobian(program.apply)(program.x)
    exact = np.asarray(jax.jit(jax.jacfwd(program.apply))(program.x))
    assert not (exact[~program.pattern]).any(), f"{program.names} have another pattern"
    np.testing.assert_allclose(block.to_scipy().toarray(), exact, rtol=1e-9, atol=1e-11)
    got = block.pattern().to_scipy().toarray()
    assert not (program.pattern & ~got & (exact != 0)).any(), program.names
    return block


def check_kept(program: Composition) -> None:
    """The block has few places beside the true ones, and stores few numbers beside theirs.

    A product of factors is no list of places: where it stores fewer numbers than there are true
    places, as the factors of a Kronecker product do, it may stand for others too.
    """
    block = check_values(program)
    places = int(program.pattern.sum())
    if 4 * places <= program.pattern.size:
        assert block.stored <= 2 * places + 1000, program.names
    few = block.nnz <= 1.1 * places + 100
    assert few or block.stored <= 2 * places + len(block.terms) * FACTORS, program.names


FACTORS = 50
"""So many numbers a term of several factors may store beside them."""


@pytest.mark.parametrize("kind", range(len(KINDS)), ids=[kind.__name__ for kind in KINDS])
def test_one_step(kind):
    """Each kind alone."""
    check_kept(composition(kind, 60, 1, (KINDS[kind],)))


@pytest.mark.parametrize("seed", sampled(range(200), 12))
def test_two_steps(seed):
    """Each kind after each other, by and by."""
    check_kept(composition(1000 + seed, 120, 2))


@pytest.mark.parametrize("before", [segments, put, sliced, rows_taken, pieces])
@pytest.mark.parametrize("seed", [7, 23])
def test_windows_of_what_is_read_at_constant_places(before, seed):
    """What windows with strides and holes read of lists is a list, and no window written out."""
    check_kept(composed(np.random.default_rng(seed), 120, [before, windows]))


@pytest.mark.parametrize("seed", sampled(range(100), 5))
def test_three_steps(seed):
    check_kept(composition(2000 + seed, 120, 3))


@pytest.mark.parametrize("seed", sampled(range(20), 2))
def test_a_scan_after_another_step_and_before_one(seed):
    """What a loop carries has one shape in all steps, so that its values alone are compared."""
    check_values(composition(3000 + seed, 60, 3, (steps_of_a_scan, *KINDS[:8])))
