"""Linear algebra against JAX: values of derivatives, and what the batch stores."""

import functools
import logging

import jax
import jax.numpy as jnp
import jax.scipy.linalg
import numpy as np
import pytest
from jax import lax

import blockjac

B, N, K = 3, 4, 2
ORDERS = ("forward", "reverse")


def real(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def made_complex(function):
    """A function of complex arrays as one of their real and imaginary parts, which gives parts."""

    def of_parts(*parts):
        count = len(parts) // 2
        found = function(
            *(lax.complex(*pair) for pair in zip(parts[:count], parts[count:], strict=True))
        )
        return [part for one in jax.tree.leaves(found) for part in (one.real, one.imag)]

    return of_parts


def definite(matrix):
    return matrix @ jnp.conj(jnp.swapaxes(matrix, -1, -2)) + 3 * jnp.eye(N)


def hermitian(matrix):
    return matrix + jnp.conj(jnp.swapaxes(matrix, -1, -2))


def triangular(**options):
    return functools.partial(lax.linalg.triangular_solve, **options)


def parts(value):
    return value.real, value.imag


def of_absolute(matrix):
    """Of complex eigenvectors, what does not depend on their phase."""
    values, vectors = lax.linalg.eig(
        matrix, compute_left_eigenvectors=False, enable_eigvec_derivs=True
    )
    return values.real, values.imag, jnp.abs(vectors)


SQUARE = real(B, N, N) + 2 * jnp.eye(N)
SIDES = real(B, N, K, seed=1)
TALL = real(B, 5, 3, seed=2)
WIDE = real(B, 3, 5, seed=3)
DIAGONALS = (real(B, N, seed=4), real(B, N, seed=5) + 4, real(B, N, seed=6))
IMAGINARY = (real(B, N, N, seed=7), real(B, N, K, seed=8))
COMPLEX = (SQUARE, SIDES, *IMAGINARY)

CASES = {
    "cholesky": (lambda a: lax.linalg.cholesky(definite(a)), (SQUARE,)),
    "cholesky-one": (
        lambda a: lax.linalg.cholesky(a, symmetrize_input=False),
        (definite(SQUARE[0]),),
    ),
    "triangular-left-lower": (triangular(left_side=True, lower=True), (SQUARE, SIDES)),
    "triangular-left-unit": (
        triangular(left_side=True, lower=True, unit_diagonal=True, transpose_a=True),
        (SQUARE, SIDES),
    ),
    "triangular-right-upper": (
        triangular(left_side=False, lower=False),
        (SQUARE, SIDES.swapaxes(1, 2)),
    ),
    "triangular-right-transposed": (
        triangular(left_side=False, lower=True, transpose_a=True),
        (SQUARE[0], SIDES[0].T),
    ),
    "triangular-itself": (lambda a: triangular(left_side=True)(a, a), (SQUARE,)),
    "tridiagonal": (lax.linalg.tridiagonal_solve, (*DIAGONALS, SIDES)),
    "lu": (lambda a: lax.linalg.lu(a)[0], (SQUARE,)),
    "lu-tall": (lambda a: lax.linalg.lu(a)[0], (TALL,)),
    "lu-wide": (lambda a: lax.linalg.lu(a)[0], (WIDE,)),
    "qr": (jnp.linalg.qr, (SQUARE,)),
    "qr-tall": (lambda a: jnp.linalg.qr(a)[1], (TALL,)),
    "qr-wide": (jnp.linalg.qr, (WIDE[0],)),
    "qr-complete": (lambda a: jnp.linalg.qr(a, mode="complete")[1], (TALL,)),
    "eigh": (lambda a: tuple(jnp.linalg.eigh(hermitian(a))), (SQUARE,)),
    "eig": (of_absolute, (SQUARE,)),
    "eigvals": (lambda a: parts(jnp.linalg.eigvals(a)), (SQUARE,)),
    "svd": (lambda a: tuple(jnp.linalg.svd(a, full_matrices=False)), (SQUARE,)),
    "svd-tall": (lambda a: tuple(jnp.linalg.svd(a, full_matrices=False)), (TALL,)),
    "svd-values-wide": (lambda a: jnp.linalg.svd(a, compute_uv=False), (WIDE,)),
    "complex-cholesky": (made_complex(lambda a: lax.linalg.cholesky(definite(a))), COMPLEX[::2]),
    "complex-triangular": (
        made_complex(triangular(left_side=True, lower=True, transpose_a=True, conjugate_a=True)),
        COMPLEX,
    ),
    "complex-triangular-right": (
        made_complex(lambda a, b: triangular(conjugate_a=True)(a, jnp.swapaxes(b, -1, -2))),
        COMPLEX,
    ),
    "complex-tridiagonal": (
        made_complex(
            lambda a, b: lax.linalg.tridiagonal_solve(a[..., 0], a[..., 1] + 4, a[..., 2], b)
        ),
        COMPLEX,
    ),
    "complex-lu": (made_complex(lambda a: lax.linalg.lu(a)[0]), COMPLEX[::2]),
    "complex-qr": (made_complex(jnp.linalg.qr), COMPLEX[::2]),
    "complex-eigvalsh": (
        lambda re, im: jnp.linalg.eigvalsh(hermitian(lax.complex(re, im))),
        COMPLEX[::2],
    ),
    "complex-singular-values": (
        lambda re, im: jnp.linalg.svd(lax.complex(re, im), compute_uv=False),
        COMPLEX[::2],
    ),
    "slogdet": (lambda a: jnp.linalg.slogdet(a)[1], (SQUARE,)),
    "det": (jnp.linalg.det, (SQUARE,)),
    "inv": (jnp.linalg.inv, (SQUARE,)),
    "pinv": (jnp.linalg.pinv, (TALL,)),
    "solve": (jnp.linalg.solve, (SQUARE, SIDES)),
    "lstsq": (lambda a, b: jnp.linalg.lstsq(a, b)[0], (TALL[0], real(5, seed=9))),
    "norm-2": (lambda a: jnp.linalg.norm(a, 2, (-2, -1)), (TALL,)),
    "norm-nuclear": (lambda a: jnp.linalg.norm(a, "nuc", (-2, -1)), (TALL,)),
    "cond": (jnp.linalg.cond, (SQUARE,)),
    "expm": (jax.scipy.linalg.expm, (SQUARE[0],)),
    "cho_solve": (
        lambda a, b: jax.scipy.linalg.cho_solve((jnp.linalg.cholesky(definite(a)), True), b),
        (SQUARE, SIDES),
    ),
    "matrix_power": (lambda a: jnp.linalg.matrix_power(a, -2), (SQUARE,)),
}

_COMPOSED = """
    slogdet det inv pinv solve lstsq norm-2 norm-nuclear cond expm cho_solve matrix_power
"""
COMPOSED = set(_COMPOSED.split())
"""Functions made of several of these primitives: their Jacobians show that they follow."""

_SLOW_TWICE = """
    svd svd-tall svd-values-wide qr-wide qr-complete lu-tall lu-wide eig eigvals
    complex-lu complex-qr complex-eigvalsh complex-singular-values complex-tridiagonal
"""
SLOW_TWICE = set(_SLOW_TWICE.split())
"""Second derivatives that take JAX long to compile, or that it refuses."""


def agree(ours, theirs, rtol=1e-9, atol=1e-9):
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(one, other, rtol=rtol, atol=atol)


@pytest.mark.parametrize("name", CASES)
def test_jacobian(name):
    function, arguments = CASES[name]
    every = tuple(range(len(arguments)))

    @jax.jit
    def both(*arguments):
        ours = [blockjac.jacobian(function, every, order=order)(*arguments) for order in ORDERS]
        return (
            ours,
            jax.jit(jax.jacfwd(function, every))(*arguments),
            jax.jit(jax.jacrev(function, every))(*arguments),
        )

    ours, forward, reverse = both(*arguments)
    for one in ours:
        agree(one, forward)
        agree(one, reverse)


def number_of(function):
    """A number that depends on all results, each entry with another weight."""

    def number(*arguments):
        return sum(
            jnp.sum(jnp.sin(jnp.arange(1.0, one.size + 1).reshape(one.shape) * one))
            for one in jax.tree.leaves(function(*arguments))
        )

    return number


@pytest.mark.parametrize("name", [name for name in CASES if name not in COMPOSED])
def test_gradient(name):
    """Of a program that keeps residuals between the values and the way back."""
    function, arguments = CASES[name]
    every = tuple(range(len(arguments)))
    number = number_of(function)
    value, pull = blockjac.vjp(number, *arguments)
    wanted, gradient = jax.jit(jax.value_and_grad(number, every))(*arguments)
    agree(value, wanted)
    agree(tuple(pull(jnp.ones(()))), gradient)


EQUAL = {
    "eigh": lambda x: jnp.linalg.eigh(x)[0],
    "svd": lambda x: jnp.linalg.svd(x)[1],
}
"""The values alone, beside vectors that have no derivative where two of them are equal."""


@pytest.mark.parametrize("name", EQUAL)
def test_equal_eigenvalues_have_a_derivative(name):
    number = lambda x: jnp.sum(EQUAL[name](x))  # noqa: E731
    identity = jnp.eye(3)
    wanted = jax.grad(number)(identity)
    assert np.isfinite(wanted).all()
    agree(blockjac.grad(number)(identity), wanted)
    for order in ("reverse", "forward"):
        agree(blockjac.jacobian(number, order=order)(identity), wanted)


@pytest.mark.parametrize("name", [name for name in CASES if name not in COMPOSED | SLOW_TWICE])
def test_second_order(name):
    function, arguments = CASES[name]
    number = number_of(function)
    along = [jnp.ones(one.shape) for one in arguments]
    every = tuple(range(len(arguments)))

    @jax.jit
    def both(*arguments):
        ours = blockjac.jvp(blockjac.grad(number, every), tuple(arguments), tuple(along))[1]
        return ours, jax.jvp(jax.grad(number, every), tuple(arguments), tuple(along))[1]

    ours, theirs = both(*arguments)
    agree(ours, theirs, 1e-8, 1e-7)


@pytest.mark.parametrize(
    ("function", "arguments", "each"),
    [
        (lambda a: lax.linalg.cholesky(a, symmetrize_input=False), (SQUARE,), [N**4]),
        (triangular(left_side=True), (SQUARE, SIDES), [None, N**2]),
        (triangular(), (SQUARE, SIDES.swapaxes(1, 2)), [None, N**2]),
        (lax.linalg.tridiagonal_solve, (*DIAGONALS, SIDES), [None, None, None, N**2]),
        (lambda a: jnp.linalg.eigh(a, symmetrize_input=False)[0], (SQUARE,), [N**3]),
        (lambda a: jnp.linalg.svd(a, compute_uv=False), (SQUARE,), [N**3]),
        (lambda a: lax.linalg.lu(a)[0], (SQUARE,), [N**4]),
        (lambda a: jnp.linalg.qr(a)[1], (SQUARE,), [N**4]),
        (lambda a: parts(jnp.linalg.eigvals(a))[0], (SQUARE,), [N**3]),
    ],
    ids=["cholesky", "left", "right", "tridiagonal", "eigh", "svd", "lu", "qr", "eig"],
)
def test_what_is_stored_grows_with_the_batch(function, arguments, each):
    every = tuple(range(len(arguments)))
    blocks = blockjac.block_jacobian(function, every)(*arguments)
    larger = [jnp.concatenate([one, one]) for one in arguments]
    for block, double, wanted in zip(
        blocks, blockjac.block_jacobian(function, every)(*larger), each, strict=True
    ):
        assert double.stored <= 2.5 * block.stored  # a mask may stay apart, or be multiplied in
        assert wanted is None or block.stored == B * wanted


def test_vmap_keeps_the_batch_a_delta():
    per_matrix = jax.vmap(lambda a: jnp.linalg.slogdet(definite(a))[1])
    assert blockjac.block_jacobian(per_matrix)(SQUARE).stored <= 2 * B * N * N


def test_gradients_run_on_the_whole_batch():
    """One factorization, and solves of the batch as it is: no axis is added."""
    loss = lambda a: jnp.sum(jnp.linalg.cholesky(a) ** 2)  # noqa: E731
    shapes = {
        tuple(variable.aval.shape)
        for equation in solves_of(jax.make_jaxpr(blockjac.grad(loss))(definite(SQUARE)))
        for variable in equation.outvars
    }
    assert shapes == {(B, N, N)}


def solves_of(closed):
    """The factorizations and solves of a program, those of inner ones included."""
    jaxpr = getattr(closed, "jaxpr", closed)
    found = []
    for equation in jaxpr.eqns:
        if equation.primitive.name in ("cholesky", "triangular_solve"):
            found.append(equation)
        for inner in jax.tree.leaves(list(equation.params.values())):
            if hasattr(inner, "eqns") or hasattr(inner, "jaxpr"):
                found += solves_of(inner)
    return found


def test_value_and_derivative_share_the_factorization():
    loss = lambda a: jnp.sum(jnp.linalg.cholesky(a) ** 2)  # noqa: E731
    program = jax.make_jaxpr(blockjac.value_and_grad(loss))(definite(SQUARE))
    names = [equation.primitive.name for equation in solves_of(program)]
    assert names.count("cholesky") == 1


def test_no_structure_is_reported_lost(caplog):
    with caplog.at_level(logging.WARNING, "blockjac"):
        blockjac.block_jacobian(lambda a: jnp.linalg.cholesky(a)[:, 0])(definite(SQUARE))
        blockjac.jacobian(triangular(left_side=True))(SQUARE, SIDES)
    assert not caplog.records


@pytest.mark.parametrize(
    ("function", "matrix", "message"),
    [
        (lambda a: jnp.linalg.svd(a)[0], TALL, "full matrices"),
        (lambda a: jax.scipy.linalg.schur(a)[0], SQUARE[0], "schur"),
        (lambda a: lax.linalg.hessenberg(a)[0], SQUARE, "hessenberg"),
        (lambda a: lax.linalg.householder_product(a, a[..., 0]), SQUARE, "householder_product"),
        (lambda a: jnp.linalg.eig(a)[1].real, SQUARE, "eigenvectors"),
    ],
    ids=["svd-full", "schur", "hessenberg", "householder", "eigenvectors"],
)
def test_refused_as_jax_refuses(function, matrix, message):
    for transform in (jax.jacfwd, jax.jacrev, blockjac.jacobian, blockjac.block_jacobian):
        with pytest.raises(NotImplementedError, match=message):
            transform(function)(matrix)
