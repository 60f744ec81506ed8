"""Integers and booleans computed in NumPy are those that JAX computes."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import blockjac
from blockjac.graph import known_arithmetic
from blockjac.graph.known_arithmetic import IN_NUMPY

LARGE = np.iinfo(np.int32).max
A = np.array([[LARGE, -3, 0], [7, -LARGE - 1, 2]], np.int32)
B = np.array([[5, -3, -1], [LARGE, -1, 4]], np.int32)
TRUE = A > B
CASES = {
    **{
        name: (getattr(lax, name), (A, B))
        for name in ("add", "sub", "mul", "max", "min", "lt", "le", "gt", "ge", "eq", "ne")
    },
    "sub of unsigned": (lax.sub, (A.astype(np.uint8), B.astype(np.uint8))),
    "add of single": (lax.add, (np.int32(LARGE), np.int32(1))),
    "max of booleans": (lax.max, (TRUE, ~TRUE)),
    **{
        f"{name} of {kind}": (getattr(lax, f"bitwise_{name}"), operands)
        for name in ("and", "or")
        for kind, operands in {"integers": (A, B), "booleans": (TRUE, ~TRUE)}.items()
    },
    "not of integers": (lax.bitwise_not, (A,)),
    "not of booleans": (lax.bitwise_not, (TRUE,)),
    "select_n": (lax.select_n, (TRUE, A, B)),
    "select_n by one": (lax.select_n, (np.array(True), A, B)),
    "select_n of three": (lax.select_n, (np.abs(B) % 3, A, B, A + 1)),
    "broadcast_in_dim": (lambda x: lax.broadcast_in_dim(x, (4, 2, 5, 3), (1, 3)), (A,)),
    "broadcast_in_dim of ones": (lambda x: lax.broadcast_in_dim(x, (2, 3), (0, 1)), (A[:, :1],)),
    "iota": (lambda: lax.broadcasted_iota(np.int32, (2, 3, 4), 1), ()),
    "reshape": (lambda x: lax.reshape(x, (3, 2)), (A,)),
    "squeeze": (lambda x: lax.squeeze(x, (0, 2)), (A[None, :, None],)),
    "transpose": (lambda x: lax.transpose(x, (1, 0)), (A,)),
    "concatenate": (lambda x, y: lax.concatenate([x, y], 1), (A, B)),
    "convert_element_type to fewer bits": (lambda x: lax.convert_element_type(x, np.int8), (A,)),
    "convert_element_type to booleans": (lambda x: lax.convert_element_type(x, bool), (A,)),
    "convert_element_type of booleans": (lambda x: lax.convert_element_type(x, int), (TRUE,)),
    "add of none": (lax.add, (A[:0], B[:0])),
    "select_n of none": (lax.select_n, (TRUE[:0], A[:0], B[:0])),
}


def equation_of(name):
    function, operands = CASES[name]
    (equation,) = jax.make_jaxpr(function)(*operands).eqns
    return equation, operands


@pytest.mark.parametrize("name", CASES)
def test_numpy_computes_the_same(name):
    function, operands = CASES[name]

    def reads(x):
        """A function whose places follow from the integers."""
        places = function(*map(jnp.asarray, operands))
        return x[jnp.abs(places.ravel().astype(int)) % 5] if places.size else x

    equation, _ = equation_of(name)
    expected = np.asarray(function(*operands))
    result = IN_NUMPY[equation.primitive.name](*operands, **equation.params)
    result = np.asarray(result).astype(expected.dtype)
    np.testing.assert_array_equal(result, expected, strict=True)
    x = jnp.arange(5.0)
    matrix = blockjac.sparse_jacobian(reads)(x)
    np.testing.assert_array_equal(matrix.toarray(), jax.jacfwd(reads)(x))


def test_every_function_has_a_case():
    assert {equation_of(name)[0].primitive.name for name in CASES} == set(IN_NUMPY)


def test_the_indices_of_a_lookup_take_no_program_of_their_own(monkeypatch):
    def refused(*_):
        raise AssertionError("JAX would compile a program for this primitive")

    monkeypatch.setattr(known_arithmetic, "compat", SimpleNamespace(bind=refused))
    places = np.array([[0, -1], [2, 2]])
    matrix = blockjac.sparse_jacobian(lambda x: jnp.sum(x[places], axis=1))(jnp.ones(3))
    np.testing.assert_array_equal(matrix.toarray(), [[1, 0, 1], [0, 0, 2]])


def test_other_arithmetic_is_that_of_jax():
    places = np.array([5, 6, 7])
    matrix = blockjac.sparse_jacobian(lambda x: x[(places // 2) % 3])(jnp.ones(3))
    np.testing.assert_array_equal(matrix.toarray(), np.eye(3)[(places // 2) % 3])
