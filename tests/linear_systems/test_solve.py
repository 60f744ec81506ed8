"""Systems solved as their structure allows, beside the dense solution of NumPy and JAX."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import blockjac
from blockjac import Block, BlockMatrix, block_hessian, block_jacobian, factorize, solve
from blockjac.errors import BlockShapeError, BlockTypeError, InvalidOptionError

RANDOM = np.random.default_rng(0)


def normal(*shape):
    return jnp.asarray(RANDOM.normal(size=shape))


LEFT, RIGHT, PERMUTATION = normal(20, 20), normal(12, 12), RANDOM.permutation(300)
INVERSE = np.argsort(PERMUTATION)


def shifted(x, by):
    """`out[..., i - by] = x[..., i]`, zeros elsewhere."""
    sides = [(0, 0)] * (x.ndim - 1) + [(max(0, by), max(0, by)) if by > 0 else (-by, -by)]
    first = 2 * by if by > 0 else 0
    return jnp.pad(x, sides)[..., first : first + x.shape[-1]]


def band(x):
    return 5 * x + 0.1 * x**2 + shifted(x, 3) * x - shifted(x, -2)


def tridiagonal(x):
    return 3 * x + x**2 / 9 - shifted(x, 1) + shifted(x, -1)


def cells(y):
    return jnp.stack(
        [y[:, 0] * y[:, 1] + y[:, 2], y[:, 1] ** 2 + y[:, 0], y[:, 2] * y[:, 0] - y[:, 1]], 1
    )


def heat(u):
    sides = jnp.pad(u, 1)
    laplacian = sides[2:, 1:-1] + sides[:-2, 1:-1] + sides[1:-1, 2:] + sides[1:-1, :-2] - 4 * u
    return u - 0.1 * laplacian + 0.01 * u**3


def triangular(x):
    return 4 * x + jnp.cumsum(x) ** 2 / len(x)


BLOCKS = {
    "diagonal": (lambda x: x**3 + x, normal(30, 10), "300 systems|30 systems"),
    "tridiagonal": (
        lambda x: 3 * x + x**2 / 9 - shifted(x, 1) + shifted(x, -1),
        normal(300),
        "trid",
    ),
    "band": (band, normal(300), r"band of 2 \+ 1 \+ 3"),
    "reordered": (lambda x: band(x[PERMUTATION])[INVERSE], normal(300), "band .* reordered"),
    "sparse": (lambda x: band(x[PERMUTATION]), normal(300), "sparse LU"),
    "cyclic": (lambda x: 5 * x + jnp.roll(x, 1) * x - jnp.roll(x, -2), normal(300), "reordered"),
    "Kronecker": (lambda v: LEFT @ v @ RIGHT, normal(20, 12), "Kronecker product"),
    "one matrix": (lambda v: LEFT @ v, normal(20, 12), "12 systems with one matrix"),
    "cells": (cells, normal(50, 3), "50 systems: dense LU of 3"),
    "flat cells": (lambda y: cells(y.reshape(-1, 3)).ravel(), normal(300), "separate.* 100 of 3"),
    "two axes": (heat, normal(18, 18), "band|sparse"),
    "batch of bands": (
        jax.vmap(band),
        normal(4, 200),
        "4 systems: (band .* 200|block tridiagonal)",
    ),
    "batch of tridiagonals": (
        jax.vmap(tridiagonal),
        normal(4, 300),
        "4 systems: tridiagonal of 300",
    ),
    "softmax": (lambda v: 2 * v + jax.nn.softmax(v, -1), normal(7, 30), "7 systems: d.* 30"),
    "rank one": (jax.grad(lambda v: jnp.sum(v) ** 2 + jnp.sum(v**4)), normal(200), "plus rank 1"),
    "one zero": (
        jax.grad(lambda v: jnp.sum(v) ** 2 + jnp.sum(v**4)),
        normal(200).at[3].set(0.0),
        "plus rank 1",
    ),
    "triangle": (triangular, normal(40), "dense LU|triangular of 40"),
    "dense": (lambda v: jnp.tanh(LEFT @ v), normal(20) / 10, "dense LU of 20"),
    "a number": (lambda v: v**3, jnp.array(1.5), "division"),
}
"""Functions, points, and how the system of the Jacobian is solved."""


def jacobian_of(name):
    function, point, _ = BLOCKS[name]
    return block_jacobian(function)(point)


def matrix_of(dense, size):
    return np.asarray(dense, float).reshape(size, size)


def same(found, wanted, rtol=1e-9):
    found, wanted = np.ravel(found), np.ravel(wanted)
    np.testing.assert_allclose(found, wanted, rtol=rtol, atol=rtol * np.abs(wanted).max())


@pytest.mark.slow
@pytest.mark.parametrize("name", BLOCKS)
def test_solutions(name):
    block = jacobian_of(name)
    size = (block.wrt_shape and int(np.prod(block.wrt_shape))) or 1
    dense = matrix_of(jax.jit(jax.jacfwd(BLOCKS[name][0]))(BLOCKS[name][1]), size)
    right = normal(*block.out_shape)
    factors = factorize(block)
    method = re.search(BLOCKS[name][2], factors.method)
    assert method, factors.method
    same(factors.solve(right), np.linalg.solve(dense, np.ravel(right)))
    sign, logarithm = np.linalg.slogdet(dense)
    same(factors.slogdet()[0], sign)
    same(factors.slogdet()[1], logarithm)
    same(factors.inverse_diagonal(), np.diag(np.linalg.inv(dense)), 1e-8)
    same(block.solve(right, 0.5), np.linalg.solve(dense + 0.5 * np.eye(size), np.ravel(right)))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["band", "reordered", "sparse", "Kronecker", "cells", "rank one"])
def test_under_jit_vmap_and_grad(name):
    function, point, _ = BLOCKS[name]
    right = normal(*point.shape)

    def ours(x, y, damping):
        block = block_jacobian(function)(x)
        return jnp.sum(solve(block, y, damping) ** 2) + factorize(block, damping).slogdet()[1]

    def theirs(x, y, damping):
        dense = jnp.reshape(jax.jacfwd(function)(x), (x.size, x.size)) + damping * jnp.eye(x.size)
        return jnp.sum(jnp.linalg.solve(dense, jnp.ravel(y)) ** 2) + jnp.linalg.slogdet(dense)[1]

    every, arguments = (0, 1, 2), (point, right, 0.3)
    for transform in (lambda f: f, lambda f: jax.grad(f, every)):
        found = jax.jit(transform(ours))(*arguments)
        wanted = jax.jit(transform(theirs))(*arguments)
        jax.tree.map(lambda a, b: same(a, b, 1e-8), found, wanted)
    points = jnp.stack([point, 1.1 * point])
    same(
        jax.jit(jax.vmap(ours, (0, None, None)))(points, right, 0.3),
        jax.vmap(theirs, (0, None, None))(points, right, 0.3),
    )


def neighbours(x, size, is_ring):
    """Each run of so many unknowns takes a little of the run before it."""
    count = -(-x.shape[-1] // size)
    padded = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, count * size - x.shape[-1])])
    runs = jnp.reshape(padded, (*x.shape[:-1], count, size))
    before = jnp.roll(runs, 1, -2) @ LEFT[:size, :size]
    before = before if is_ring else before.at[..., 0, :].set(0.0)
    return 0.1 * jnp.reshape(before, padded.shape)[..., : x.shape[-1]]


STEPS = (
    lambda x, w: w * x,
    lambda x, w: x + 0.3 * shifted(x, 1),
    lambda x, w: x - 0.2 * shifted(x, -2),
    lambda x, w: x + 0.2 * jnp.roll(x, 1),
    lambda x, w: x + 0.1 * w * jnp.sum(x, -1, keepdims=True),
    lambda x, w: x + 0.3 * x[..., ::-1],
    lambda x, w: x + 0.1 * jnp.tanh(x @ (w[: x.shape[-1], None] * w[: x.shape[-1]])),
    lambda x, w: x.at[..., 0].add(0.5 * x[..., -1]),
    lambda x, w: x + neighbours(x, 2, is_ring=False) * w,
    lambda x, w: x + neighbours(x, 3, is_ring=False),
    lambda x, w: x + neighbours(x, 2, is_ring=True),
)


@pytest.mark.parametrize("seed", range(24))
def test_random_structures(seed):
    random = np.random.default_rng(seed)
    shape = [(24,), (3, 8), (5, 3), (40,)][seed % 4]
    weights = jnp.asarray(random.uniform(0.5, 1.5, shape[-1]))
    chosen = [STEPS[number] for number in random.integers(len(STEPS), size=random.integers(1, 4))]

    def function(x):
        y = x + 0.1 * x**2
        for step in chosen:
            y = step(y, weights)
        return y + 3 * x

    point = jnp.asarray(random.normal(size=shape) / 3)
    right, size = jnp.asarray(random.normal(size=shape)), point.size
    dense = np.asarray(jax.jacfwd(function)(point)).reshape(size, size)
    block = block_jacobian(function)(point)
    for damping in (0.0, 0.2):
        shifted_matrix = dense + damping * np.eye(size)
        factors = factorize(block, damping)
        same(factors.solve(right), np.linalg.solve(shifted_matrix, np.ravel(right)))
        same(factors.slogdet()[1], np.linalg.slogdet(shifted_matrix)[1])
        same(factors.inverse_diagonal(), np.diag(np.linalg.inv(shifted_matrix)), 1e-8)


@pytest.mark.slow
def test_variables_of_a_tree():
    def energy(p):
        product = jnp.sum(jnp.cosh(p["a"])) * jnp.sum(p["b"] ** 2)
        return product + jnp.sum(p["c"] ** 4 + p["c"] ** 2)

    point = {"a": normal(40), "b": normal(3), "c": normal(5, 6)}
    hessian = block_hessian(energy)(point)
    right = jax.tree.map(lambda leaf: normal(*leaf.shape), point)

    def flat(tree):
        return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])

    dense = np.asarray(hessian.dense())
    factors = factorize(hessian)
    same(flat(factors.solve(right)), np.linalg.solve(dense, flat(right)))
    same(flat(factors.inverse_diagonal()), np.diag(np.linalg.inv(dense)))
    same(factors.slogdet()[1], np.linalg.slogdet(dense)[1])
    assert jax.tree.map(jnp.shape, factors.solve(right)) == jax.tree.map(jnp.shape, point)


def test_positive_definite_matrices_take_cholesky():
    hessian = block_jacobian(jax.grad(lambda v: jnp.sum(jnp.cosh(LEFT @ v))))(normal(20) / 10)
    factors = factorize(hessian, assume="pos")
    assert factors.method == "dense Cholesky of 20"
    right, dense = normal(20), np.asarray(hessian.dense())
    same(factors.solve(right), np.linalg.solve(dense, right))
    same(factors.slogdet()[1], np.linalg.slogdet(dense)[1])
    same(factors.inverse_diagonal(), np.diag(np.linalg.inv(dense)))
    assert np.isnan(factorize(hessian * -1.0, assume="pos").solve(right)).all()


def test_factors_pass_from_one_program_to_another():
    block = jacobian_of("band")
    factors = jax.jit(factorize)(block)
    right = normal(300)
    same(jax.jit(lambda factors, y: factors.solve(y))(factors, right), block.solve(right))


@pytest.mark.parametrize(
    "name", ["diagonal", "cells", "band", "tridiagonal", "rank one", "softmax"]
)
def test_single_precision(name):
    function, point, _ = BLOCKS[name]
    point = point.astype(jnp.float32)
    block = block_jacobian(function)(point)
    right = jnp.ones(point.shape, jnp.float32)
    solution = block.solve(right, 1.0)
    assert solution.dtype == jnp.float32
    dense = np.asarray(block.dense(), float).reshape(point.size, point.size) + np.eye(point.size)
    same(solution, np.linalg.solve(dense, np.ravel(right)), 2e-3)


def test_complex_numbers():
    weights = normal(30) + 1j * normal(30)

    def function(x):
        return (3 + weights) * x + 0.5j * shifted(x, 1) - shifted(x, -1)

    block = block_jacobian(function)(jnp.zeros(30))
    right = normal(30) + 1j * normal(30)
    dense = np.asarray(block.dense())
    factors = factorize(block)
    same(factors.solve(right), np.linalg.solve(dense, right))
    same(factors.slogdet()[0], np.linalg.slogdet(dense)[0])
    same(factors.inverse_diagonal(), np.diag(np.linalg.inv(dense)))


@pytest.mark.parametrize(
    ("function", "size"),
    [
        (lambda x: x**3 + x, 10**6),
        (tridiagonal, 10**5),
        (band, 10**5),
        (lambda y: cells(y.reshape(-1, 3)).ravel(), 3 * 10**4),
        (jax.grad(lambda v: jnp.sum(v) ** 2 + jnp.sum(v**4)), 10**5),
    ],
    ids=["diagonal", "tridiagonal", "band", "cells", "rank one"],
)
def test_memory_is_that_of_the_structure(function, size):
    """A dense matrix would take from 7 GB to 8 TB."""
    program = jax.jit(lambda x, y: solve(block_jacobian(function)(x), y))
    argument = jax.ShapeDtypeStruct((size,), jnp.float64)
    planned = program.lower(argument, argument).compile().memory_analysis()
    assert planned.temp_size_in_bytes < 60 * 8 * size


@pytest.mark.parametrize("name", ["diagonal", "band", "sparse", "flat cells", "dense"])
def test_singular_matrices_give_no_numbers(name):
    block = jacobian_of(name) * 0.0 if name == "dense" else jacobian_of(name)
    size = int(np.prod(block.wrt_shape))
    rows = jnp.reshape(block.dense(), (size, size)).at[0].set(0.0)
    if name == "diagonal":
        singular = block_jacobian(lambda x: x**2)(jnp.arange(4.0))
    elif name == "band":
        singular = block_jacobian(lambda x: jnp.where(jnp.arange(300) == 7, 0.0, 1.0) * band(x))(
            normal(300)
        )
    else:
        singular = Block.from_dense(rows, 1)
    assert not np.isfinite(solve(singular, jnp.ones(singular.out_shape))).all()
    assert factorize(singular).slogdet()[1] == -np.inf


def test_bad_input():
    block, matrix = jacobian_of("band"), BlockMatrix([[jacobian_of("band")]])
    wide = block_jacobian(lambda x: x[1:])(jnp.ones(3))
    with pytest.raises(BlockShapeError, match=r"square matrix.*found \(\(2,\),\) and \(\(3,\),\)"):
        solve(wide, jnp.ones(2))
    with pytest.raises(BlockShapeError, match=r"factorize needs a square matrix"):
        wide.slogdet()
    with pytest.raises(BlockShapeError, match=r"solve needs a tree .* \(\(300,\),\), but found"):
        block.solve(jnp.ones(299))
    with pytest.raises(InvalidOptionError, match="damping must not be negative, but is -1"):
        block.solve(jnp.ones(300), -1)
    for call in (lambda **options: solve(block, jnp.ones(300), **options), matrix.solve):
        with pytest.raises(InvalidOptionError, match="assume must be 'gen', 'sym' or 'pos'"):
            call(jnp.ones(300), assume="spd") if call == matrix.solve else call(assume="spd")
    with pytest.raises(
        BlockTypeError, match=r"factorize takes a Block or a BlockMatrix, but found"
    ):
        factorize(jnp.eye(3))
    batch = jax.vmap(block_jacobian(band))(normal(2, 300))
    with pytest.raises(BlockTypeError, match=r"factorize takes one matrix, but this is a batch"):
        factorize(batch)


def test_places_that_only_the_program_knows_are_written_out():
    def ours(x, order):
        return solve(block_jacobian(lambda x: 3 * x + x[order])(x), jnp.ones(6))

    order = jnp.array([2, 0, 1, 5, 3, 4])
    dense = 3 * np.eye(6) + np.eye(6)[np.asarray(order)]
    same(jax.jit(ours)(jnp.ones(6), order), np.linalg.solve(dense, np.ones(6)))


def test_the_last_sparse_factors_are_used_again(monkeypatch):
    from scipy.sparse import linalg

    calls = []
    monkeypatch.setattr(
        linalg, "splu", lambda *args, own=linalg.splu: calls.append(1) or own(*args)
    )
    blockjac.clear_caches()
    factors = factorize(jacobian_of("sparse"))
    for _ in range(3):
        jax.block_until_ready(factors.solve(normal(300)))
    assert len(calls) == 1


class Accelerator:
    """What JAX tells of one."""

    platform = "gpu"
    device_kind = "NVIDIA H200"

    def memory_stats(self):
        return None


@pytest.mark.parametrize(
    ("function", "point", "method"),
    [
        (BLOCKS["diagonal"][0], normal(300), "300 systems: division"),
        (lambda x: jnp.stack([x[0] * x[1], x[1] ** 2 + x[0]]), normal(2), "dense LU of 2"),
        (tridiagonal, normal(1000), "tridiagonal"),
        (lambda y: cells(y.reshape(-1, 3)).ravel(), normal(300), "separate systems"),
        (BLOCKS["rank one"][0], normal(200), "plus rank 1"),
        (lambda x: band(x[PERMUTATION]), normal(300), "sparse LU"),
        (lambda x: band(x[np.argsort(PERMUTATION[:60])]), normal(60), "dense LU"),
    ],
    ids=["diagonal", "two", "tridiagonal", "cells", "rank one", "sparse", "small and sparse"],
)
def test_an_accelerator_waits_for_each_column_and_for_the_host(
    function, point, method, monkeypatch
):
    monkeypatch.setattr(blockjac.devices, "current", Accelerator)
    assert method in factorize(block_jacobian(function)(point)).method
