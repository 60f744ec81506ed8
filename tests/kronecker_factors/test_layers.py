"""The factors of all kinds of layers against those of models whose layers are marked by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.curvature_cases import Problem, close, direction, flat, gauss_newton
from support.layer_models import CASES, factors

from blockjac import ekfac, factorize, kfac
from blockjac.kronecker_factors.of_parameter import Pair


def matrices(part):
    """The two factors, as matrices: by place, where there are several."""
    sides = (part.left, part.right)
    count = len(part.both_axes)
    return [
        np.reshape(side.dense(), (*side.out_shape[:count], *(int(np.prod(side.wrt_shape)),) * 2))
        for side in sides
    ]


@pytest.mark.slow
@pytest.mark.parametrize("kfac_approx", ["expand", "reduce"])
@pytest.mark.parametrize("name", CASES)
def test_factors(name, kfac_approx):
    case = CASES[name]
    matrix = kfac(case.model, case.loss, kfac_approx=kfac_approx)(case.params, case.X, case.Y)
    parts = dict(zip(sorted(case.params), matrix.parts, strict=True))
    wanted = factors(case, kfac_approx)
    pairs = {key for key, part in parts.items() if isinstance(part, Pair)}
    assert pairs == {key.partition(" ")[0] for key in wanted}
    for key, (A, G) in wanted.items():
        leaf, _, place = key.partition(" ")
        part = parts[leaf]
        left, right = matrices(part)
        assert (part.left_axes, part.right_axes) == case.axes.get(leaf, ((0,), (1,)))
        close(left[int(place)] if place else left, A)
        close(right[int(place)] if place else right, G)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_the_matrix_of_the_factors(name):
    """Products, diagonals and solutions, against the dense matrix of the factors."""
    case = CASES[name]
    matrix = kfac(case.model, case.loss)(case.params, case.X, case.Y)
    dense, v = np.asarray(matrix.dense()), direction(case.params)
    exact = gauss_newton(Problem(case.model, case.loss, case.params, case.X, case.Y))
    start = 0
    for part, leaf in zip(matrix.parts, jax.tree.leaves(case.params), strict=True):
        own = slice(start, start + leaf.size)
        if not isinstance(part, Pair):
            close(dense[own, own], exact[own, own])
        start += leaf.size
    close(flat(matrix.matvec(v)), dense @ flat(v))
    close(flat(matrix.diagonal()), np.diagonal(dense))
    damped = dense + 0.3 * np.eye(len(dense))
    close(flat(matrix.solve(v, 0.3)), np.linalg.solve(damped, flat(v)), rtol=1e-8)
    factored = factorize(matrix, damping=0.3)
    close(factored.slogdet()[1], np.linalg.slogdet(damped)[1], rtol=1e-8)
    close(flat(factored.inverse_diagonal()), np.diagonal(np.linalg.inv(damped)), rtol=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("kfac_approx", ["expand", pytest.param("reduce", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", CASES)
def test_corrected_eigenvalues(name, kfac_approx):
    """The diagonal of the exact block, in an orthonormal basis in which A and G are diagonal."""
    case = CASES[name]
    arguments = case.params, case.X, case.Y
    matrix = ekfac(case.model, case.loss, kfac_approx=kfac_approx)(*arguments)
    approximation = kfac(case.model, case.loss, kfac_approx=kfac_approx)(*arguments)
    exact = gauss_newton(Problem(case.model, case.loss, *arguments))
    start = 0
    leaves = jax.tree.leaves(case.params)
    for part, pair, leaf in zip(matrix.parts, approximation.parts, leaves, strict=True):
        own = slice(start, start + leaf.size)
        start += leaf.size
        if not isinstance(pair, Pair):
            continue
        eigen = part.eigen
        rotation = np.reshape(eigen.basis.rotation().dense(), (leaf.size, leaf.size))
        close(rotation.T @ rotation, np.eye(leaf.size))
        rotated = rotation.T @ np.reshape(pair.block.dense(), (leaf.size,) * 2) @ rotation
        close(rotated, np.diag(np.diagonal(rotated)))
        wanted = np.diagonal(rotation.T @ exact[own, own] @ rotation)
        close(np.ravel(eigen.values), wanted, rtol=1e-9)
    v, dense = direction(case.params), np.asarray(matrix.dense())
    close(flat(matrix.matvec(v)), dense @ flat(v))
    close(flat(matrix.diagonal()), np.diagonal(dense))
    damped = dense + 0.3 * np.eye(len(dense))
    close(flat(matrix.solve(v, 0.3)), np.linalg.solve(damped, flat(v)), rtol=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("maker", [kfac, ekfac])
@pytest.mark.parametrize("name", CASES)
def test_a_batch_of_parameters(name, maker):
    case = CASES[name]
    of_params = functools.partial(_matrix, maker(case.model, case.loss), case)
    many = jax.tree.map(lambda leaf: jnp.stack([leaf, 1.5 * leaf]), case.params)
    batch = jax.jit(jax.vmap(of_params))(many)
    alone = of_params(jax.tree.map(lambda leaf: leaf[1], many))
    v = direction(case.params)
    assert batch.batch_shape == (2,)
    assert repr(batch) == repr(alone)
    close(batch.dense()[1], alone.dense(), rtol=1e-8)
    for name in ("matvec", "solve", "diagonal"):
        arguments = {"matvec": (v,), "solve": (v, 0.3), "diagonal": ()}[name]
        answers = getattr(batch, name)(*arguments), getattr(alone, name)(*arguments)
        close(flat(jax.tree.map(lambda leaf: leaf[1], answers[0])), flat(answers[1]), rtol=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_derivatives_of_solutions(name):
    """By central differences; eigenvalues may be equal."""
    case = CASES[name]
    v = direction(case.params)

    def squared(params):
        solution = _matrix(kfac(case.model, case.loss), case, params).solve(v, 0.3)
        return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(solution))

    def moved(step):
        return squared(jax.tree.map(lambda p, d: p + step * d, case.params, v))

    gradient = jax.grad(squared)(case.params)
    slope = (moved(1e-5) - moved(-1e-5)) / 2e-5
    close(flat(gradient) @ flat(v), slope, rtol=1e-6)


def _matrix(transform, case, params):
    return transform(params, case.X, case.Y)
