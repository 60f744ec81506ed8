"""The places of a sparse derivative once, then its values in the order asked."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from scipy import linalg, sparse

from blockjac import interop
from blockjac.errors import BlockShapeError, FormatError, InvalidOptionError

SIZE = 12


def springs(x):
    return jnp.sin(x[1:] - x[:-1]) * x[:-1]


def repeated(x):
    """Three terms meet on the main diagonal."""
    return x**2 + jnp.pad(x[1:], (0, 1)) * x + jnp.cumsum(x)[-1:] * 0 + x[0] * x


def two_leaves(tree):
    return {"a": tree["u"] * tree["v"][0], "b": jnp.outer(tree["v"], tree["v"])}


def looked_up(x):
    return x[np.array([3, 1, 1, 7, 0])] ** 2


def network(x):
    return jnp.tanh(jnp.arange(12.0).reshape(4, 3) @ x.reshape(3, 4))


PROGRAMS = {
    "springs": (springs, jnp.linspace(0.0, 2.0, SIZE)),
    "repeated": (repeated, jnp.linspace(0.5, 2.0, SIZE)),
    "two leaves": (two_leaves, {"u": jnp.arange(1.0, 5.0), "v": jnp.array([2.0, 3.0])}),
    "looked up": (looked_up, jnp.linspace(0.5, 2.0, SIZE)),
    "network": (network, jnp.linspace(-0.1, 0.1, SIZE)),
    "constant": (lambda x: jnp.ones(3), jnp.ones(2)),
}


def dense_jacobian(fun, x):
    """By JAX, of the flattened function."""
    flat, unravel = ravel_pytree(x)
    return jax.jacfwd(lambda x: ravel_pytree(fun(unravel(x)))[0])(flat)


@pytest.mark.parametrize("name", PROGRAMS)
def test_values_stand_where_the_places_say(name):
    fun, x = PROGRAMS[name]
    places = interop.structure(fun)(jax.eval_shape(lambda: x))
    matrix = np.zeros(places.shape)
    np.add.at(matrix, (places.rows, places.columns), places.values(x))
    np.testing.assert_allclose(matrix, dense_jacobian(fun, x), atol=1e-14)
    assert len({*zip(places.rows, places.columns, strict=True)}) == places.nnz


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("format", ["csr", "csc"])
def test_compressed_formats_are_those_of_scipy(name, format):
    fun, x = PROGRAMS[name]
    places = interop.structure(fun)(x)
    indices, ends = places.indices(format)
    kind = {"csr": sparse.csr_array, "csc": sparse.csc_array}[format]
    matrix = kind((places.values(x, format=format), indices, ends), shape=places.shape)
    np.testing.assert_allclose(matrix.toarray(), dense_jacobian(fun, x), atol=1e-14)
    assert matrix.has_sorted_indices
    assert matrix.has_canonical_format


def test_diagonals_and_bands():
    def equation(x):
        padded = jnp.pad(x, (1, 2))
        return padded[:-3] * 2 - 5 * x**3 + padded[3:] * x - 7 * padded[1:-2]

    x = jnp.linspace(1.0, 2.0, SIZE)
    places = interop.structure(equation)(x)
    exact = dense_jacobian(equation, x)
    diagonals = sparse.dia_array(
        (places.values(x, format="dia"), places.indices("dia")), shape=places.shape
    )
    np.testing.assert_allclose(diagonals.toarray(), exact)
    assert places.indices("band") == (1, 2)
    right = np.arange(1.0, SIZE + 1)
    solution = linalg.solve_banded(places.indices("band"), places.values(x, format="band"), right)
    np.testing.assert_allclose(exact @ solution, right)


def test_a_band_with_corners_is_refused_before_it_is_made():
    """A ring has three diagonals and two corners, and its band all `2 n - 1` diagonals."""
    ring = lambda x: 2 * x - jnp.roll(x, 1) - jnp.roll(x, -1)  # noqa: E731
    places = interop.structure(ring)(jax.ShapeDtypeStruct((200_000,), float))
    assert places.values(jnp.ones(200_000), format="dia").shape == (5, 200_000)
    with pytest.raises(ValueError, match=r"'band' stores whole.*600,000.*between 399,999 of them"):
        places.values(jnp.ones(200_000), format="band")


@pytest.mark.parametrize("format", ["coo", "csr", "csc", "dia", "band"])
def test_a_function_that_depends_on_nothing(format):
    x = jnp.ones(3)
    places = interop.structure(lambda x: jnp.ones(3))(x)
    assert not np.any(places.values(x, format=format))
    assert not np.any(jax.jit(lambda x: places.values(x, format=format))(x))


@pytest.mark.slow
@pytest.mark.parametrize("triangle", [None, "lower", "upper"])
def test_the_hessian_of_a_lagrangian(triangle):
    def lagrangian(x, multipliers, factor):
        return factor * jnp.sum(x[1:] ** 2 * x[:-1]) + multipliers @ springs(x)

    x, multipliers = jnp.linspace(0.0, 2.0, SIZE), jnp.arange(1.0, SIZE)
    places = interop.structure(lagrangian, derivative="hessian", triangle=triangle)(
        x, multipliers, 1.0
    )
    for factor in (0.0, 2.0):
        matrix = np.zeros(places.shape)
        matrix[places.rows, places.columns] = places.values(x, multipliers, factor)
        exact = np.asarray(jax.hessian(lagrangian)(x, multipliers, factor))
        cut = {None: exact, "lower": np.tril(exact), "upper": np.triu(exact)}[triangle]
        np.testing.assert_allclose(matrix, cut, atol=1e-13)


def test_the_function_is_traced_once():
    calls = []

    def fun(x):
        calls.append(1)
        return x**2

    places = interop.structure(fun)(jax.ShapeDtypeStruct((3,), float))
    for factor in (1.0, 2.0):
        np.testing.assert_allclose(places.values(factor * np.ones(3)), 2 * factor)
        places.values(np.ones(3), format="csc")
    assert len(calls) == 1


def test_values_can_be_traced():
    x = jnp.linspace(0.0, 2.0, SIZE)
    places = interop.structure(springs)(x)
    for format in ("coo", "csc", "dia"):
        traced = jax.jit(lambda x, format=format: places.values(x, format=format))(x)
        np.testing.assert_allclose(traced, places.values(x, format=format))


def test_values_that_are_not_finite_are_passed_on():
    places = interop.structure(jnp.log)(jnp.ones(3))
    assert np.isinf(places.values(jnp.array([1.0, 0.0, 2.0]))).tolist() == [False, True, False]


def test_other_shapes_are_refused():
    places = interop.structure(springs)(jnp.ones(4))
    with pytest.raises(TypeError, match=r"made for arguments of .*\(4,\).*but got .*\(5,\)"):
        places.values(jnp.ones(5))


def test_places_that_move_are_refused():
    with pytest.raises(TypeError, match=r"depend on values.*sort.*Close over"):
        interop.structure(jnp.sort)(jnp.ones(4))
    with pytest.raises(TypeError, match="depend on values"):
        interop.structure(lambda x, i: x[i])(jnp.ones(4), np.array([1, 2]))


def test_options_that_do_not_exist_are_refused():
    places = interop.structure(springs)(jnp.ones(4))
    with pytest.raises(FormatError, match=r"'csc'.*'band', but is 'CSC'"):
        places.values(jnp.ones(4), format="CSC")
    with pytest.raises(FormatError, match=r"given by its name: values\(x, format='csc'\)"):
        places.values(jnp.ones(4), "csc")
    with pytest.raises(InvalidOptionError, match="'jacobian' or 'hessian'"):
        interop.structure(springs, derivative="gradient")
    with pytest.raises(InvalidOptionError, match="'lower', 'upper' or None"):
        interop.structure(springs, derivative="hessian", triangle="low")
    with pytest.raises(TypeError, match="a Jacobian is not symmetric"):
        interop.structure(springs, triangle="lower")
    with pytest.raises(BlockShapeError, match="dia"):
        interop.structure(lambda x: x[np.arange(100)[::-1]])(jnp.ones(100)).values(
            jnp.ones(100), format="band"
        )


def test_integers_stand_for_floats():
    places = interop.structure(lambda t, x: t * x**2, argnums=1)(0.5, np.ones(3))
    np.testing.assert_array_equal(places.values(2, np.arange(3)), [0.0, 4.0, 8.0])
    with pytest.raises(TypeError, match="made for arguments of"):
        places.values(2, np.ones(3) * 1j)
    single = interop.structure(jnp.sin)(jax.ShapeDtypeStruct((3,), np.float32))
    with pytest.raises(TypeError, match="made for arguments of"):
        single.values(np.ones(3))


@pytest.mark.parametrize("format", ["coo", "csr", "csc", "dia", "band"])
def test_a_derivative_that_is_zero_has_no_places(format):
    places = interop.structure(lambda x: jnp.zeros(3))(np.ones(4))
    assert (places.shape, places.nnz) == ((3, 4), 0)
    assert not places.values(np.ones(4), format=format).any()
    assert not jax.jit(lambda x: places.values(x, format=format))(np.ones(4)).any()


def test_petsc_takes_the_arrays_as_they_are():
    reason = "has no wheel: Debian's python3-petsc4py, or built with PETSc"
    PETSc = pytest.importorskip("petsc4py.PETSc", reason=reason)
    fun, x = PROGRAMS["repeated"]
    places = interop.structure(fun)(x)
    columns, ends = places.indices("csr")
    matrix = PETSc.Mat().createAIJ(places.shape, csr=(ends, columns, np.zeros(places.nnz)))
    matrix.setValuesCSR(ends, columns, places.values(x, format="csr"))
    matrix.assemble()
    found = matrix.convert("dense").getDenseArray()
    np.testing.assert_allclose(found, jax.jacfwd(fun)(x), rtol=1e-14)
