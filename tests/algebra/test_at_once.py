"""Outside `jit` a call pays the compiled program: what can be made once is, by counting."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import blockjac
from blockjac import Block
from blockjac.algebra import at_once
from blockjac.algebra.backend import planning
from blockjac.algebra.cost import Abstract
from blockjac.exports import prototypes


@pytest.fixture
def runs(monkeypatch):
    """How often Python code ran that only a trace runs, by name."""
    counted: dict[str, int] = {}

    def count(module, name):
        function = getattr(module, name)

        def call(*args, **kwargs):
            counted[name] = counted.get(name, 0) + 1
            return function(*args, **kwargs)

        monkeypatch.setattr(module, name, call)

    for name in ("unflatten",):
        count(at_once, name)
    for name in ("arrangement", "values", "assembled"):
        count(prototypes, name)
    at_once._programs.clear()
    prototypes._prototypes.clear()
    return counted


@jax.jit
def residuals(x):
    return jnp.concatenate([10 * (x[1:] - x[:-1] ** 2), 1 - x[:-1]])


def block_at(point):
    return blockjac.block_jacobian(residuals)(jnp.full(6, point))


def wanted_at(point):
    return np.asarray(jax.jit(jax.jacfwd(residuals))(jnp.full(6, point)))


@pytest.mark.parametrize(
    ("ask", "wanted"),
    [
        (lambda J: J.matvec(jnp.arange(6.0)), lambda J: J @ np.arange(6.0)),
        (lambda J: J.matvec(np.arange(6.0)), lambda J: J @ np.arange(6.0)),
        (lambda J: J.vecmat(jnp.arange(10.0)), lambda J: np.arange(10.0) @ J),
        (lambda J: J.dense(), lambda J: J),
        (lambda J: (J.T @ J).diagonal(), lambda J: np.diag(J.T @ J)),
    ],
    ids=["matvec", "matvec-numpy", "vecmat", "dense", "diagonal"],
)
def test_a_product_is_compiled_once_for_a_structure(runs, ask, wanted):
    for point in (0.5, 1.0, 1.5):
        np.testing.assert_allclose(ask(block_at(point)), wanted(wanted_at(point)), rtol=1e-12)
    assert runs["unflatten"] == 1


def test_another_structure_is_another_program(runs):
    vector = jnp.arange(3.0)
    np.testing.assert_allclose(Block.diag(vector).matvec(vector), vector**2)
    np.testing.assert_allclose((2 * Block.diag(vector)).matvec(vector), 2 * vector**2)
    np.testing.assert_allclose(Block.identity(3).matvec(vector), vector)
    assert runs["unflatten"] == 3


def test_under_a_trace_nothing_is_compiled_apart(runs):
    vector = jnp.arange(3.0)
    found = jax.jit(lambda x: Block.diag(x).matvec(x))(vector)
    np.testing.assert_allclose(found, vector**2)
    assert not runs


def test_constants_of_numpy_stay_constants():
    vector = np.arange(3.0)
    seen = []
    at_once.at_once(
        lambda block, _: seen.append(block.terms[0].factors[0].array), Block.diag(vector), vector
    )
    assert seen[0] is vector


@pytest.mark.parametrize("format", ["csr", "csc", "coo", "dia"])
def test_places_are_found_once_for_a_pattern(runs, format):
    for point in (0.5, 1.0, 1.5):
        matrix = block_at(point).to_scipy(format)
        np.testing.assert_allclose(matrix.toarray(), wanted_at(point), rtol=1e-12)
        assert matrix.format == format
    assert (runs["arrangement"], runs["assembled"]) == (1, 1)


def test_a_matrix_of_scipy_is_the_users_own(runs):
    first = block_at(0.5).to_scipy()
    before = first.indices.copy()
    first.data[:] = 7
    first.indices[:] = first.indices[::-1]
    second = block_at(0.5).to_scipy()
    np.testing.assert_array_equal(second.indices, before)
    np.testing.assert_allclose(second.toarray(), wanted_at(0.5), rtol=1e-12)


def test_places_of_jaxs_matrices_are_found_once(runs):
    jacobian = blockjac.sparse_jacobian(residuals, format="bcoo")
    for point in (0.5, 1.0, 1.5):
        for matrix in (block_at(point).to_bcoo(), jacobian(jnp.full(6, point))):
            np.testing.assert_allclose(matrix.todense(), wanted_at(point), rtol=1e-12)
            assert matrix.indices_sorted
            assert matrix.unique_indices
    assert runs["arrangement"] <= 2
    assert runs["values"] <= 2


def test_lookups_that_the_program_computes_are_compared():
    x = jnp.arange(5.0)
    taken = blockjac.sparse_jacobian(jax.jit(lambda x, at: x[at] ** 2), format="csr")
    for at in (jnp.array([0, 2]), jnp.array([3, 1]), jnp.array([0, 2])):
        wanted = np.zeros((2, 5))
        wanted[[0, 1], at] = 2 * np.asarray(x)[at]
        np.testing.assert_allclose(taken(x, at).toarray(), wanted)
        block = blockjac.block_jacobian(lambda x, at=at: x[at] ** 2)(x)
        np.testing.assert_allclose(block.to_scipy().toarray(), wanted)
        np.testing.assert_allclose(block.to_bcoo().todense(), wanted)


def test_lookups_that_are_constants_are_not_read_again(monkeypatch):
    """At a later call they are known by identity: no bytes of them are compared."""
    at = np.array([3, 1, 1, 0])
    jacobian = blockjac.sparse_jacobian(jax.jit(lambda x: x[at] * x[:4]))
    x = jnp.arange(1.0, 6.0)
    wanted = jax.jit(jax.jacfwd(lambda x: x[at] * x[:4]))(x)
    np.testing.assert_allclose(jacobian(x).toarray(), wanted)
    layouts = []
    monkeypatch.setattr(
        prototypes, "_made_once", lambda given, *_: layouts.append(given) or pytest.skip.Exception
    )
    with pytest.raises(AttributeError):
        jacobian(x)
    assert all(not arrays for row in layouts[0] for _, arrays in row)


def test_directional_derivatives_of_a_jitted_function_are_traced_once():
    traces = []

    @jax.jit
    def energy(x):
        traces.append(1)
        return jnp.sum(jnp.sin(x[1:]) * x[:-1])

    for scale in (0.5, 1.0, 1.5):
        x, v = scale * jnp.arange(4.0), jnp.ones(4)
        wanted = jax.jit(jax.hessian(lambda x: jnp.sum(jnp.sin(x[1:]) * x[:-1])))(x) @ v
        np.testing.assert_allclose(blockjac.hvp(energy, x, v), wanted, rtol=1e-12, atol=1e-14)
    after = len(traces)
    for scale in (2.0, 3.0):
        x, v = scale * jnp.arange(4.0), jnp.ones(4)
        value, rate = blockjac.jvp(energy, (x,), (v,))
        wanted = jax.jvp(lambda x: jnp.sum(jnp.sin(x[1:]) * x[:-1]), (x,), (v,))
        np.testing.assert_allclose((value, rate), wanted, rtol=1e-12)
    assert after <= 1
    assert len(traces) <= 2


def test_an_operator_of_scipy_multiplies_by_one_program(monkeypatch):
    flattened = []
    flat_parts = at_once.flat_parts
    monkeypatch.setattr(
        at_once, "flat_parts", lambda block: flattened.append(1) or flat_parts(block)
    )
    block = block_at(0.5)
    operator = block.to_scipy_operator()
    operator @ np.ones(6)
    operator.T @ np.ones(10)
    before = len(flattened)
    for _ in range(3):
        np.testing.assert_allclose(operator @ np.ones(6), wanted_at(0.5) @ np.ones(6), rtol=1e-12)
        np.testing.assert_allclose(
            operator.T @ np.ones(10), wanted_at(0.5).T @ np.ones(10), rtol=1e-12
        )
    assert len(flattened) == before


def test_in_a_plan_nothing_is_compiled(runs):
    block = Block.diag(jnp.arange(3.0))
    with planning():
        assert isinstance(block.dense(), Abstract)
        assert isinstance(Block.identity(3).dense(), Abstract)
    assert not runs
