"""Random programs around factorizations, systems, eigenvalues and Fourier transforms.

Each has stacks of any shape, matrices of one to four rows, and is composed with other steps. What
has to be symmetric is so by what the program does to its arguments.
"""

import jax
import jax.numpy as jnp
import jax.scipy.linalg as jsl
import numpy as np
from jax import lax

import blockjac

STACKS = ((), (), (), (2,), (1,), (3,), (2, 1), (1, 2), (2, 2))


class Draw:
    """Random shapes and arrays."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.stack = STACKS[self.rng.integers(len(STACKS))]
        self.size = int(self.rng.integers(1, 5))
        self.is_complex = bool(self.rng.random() < 0.3)

    def choose(self, *options):
        return options[self.rng.integers(len(options))]

    def array(self, *shape):
        return jnp.asarray(self.rng.normal(size=shape))

    def matrices(self, rows=None, columns=None):
        rows, columns = rows or self.size, columns or self.size
        return self.array(*self.stack, rows, columns) + 3 * jnp.eye(rows, columns)


def adjoint(A):
    return jnp.conj(jnp.swapaxes(A, -1, -2))


def widened(draw):
    """Makes complex matrices of real ones, in some programs."""
    turn = 1 + 0.5j if draw.is_complex else 1.0
    return lambda A: A * turn + (0.3j * jnp.sin(A) if draw.is_complex else 0.0)


def positive(wide):
    """Makes positive definite matrices."""

    def result(A):
        B = wide(A)
        return B @ adjoint(B) + jnp.eye(A.shape[-1])

    return result


def parts(z):
    """A real array of a complex one."""
    return jnp.sin(jnp.real(z)) + jnp.imag(z) ** 2


def log_determinant(draw):
    spd = positive(widened(draw))

    def f(A):
        L = jnp.linalg.cholesky(spd(A))
        diagonal = jnp.real(jnp.diagonal(L, axis1=-2, axis2=-1))
        return 2 * jnp.sum(jnp.log(diagonal), -1)

    return f, (draw.matrices(),)


def cholesky_factor(draw):
    spd, upper = positive(widened(draw)), draw.choose(False, True)
    mode = draw.choose("numpy", "scipy", "plain")

    def f(A):
        S = spd(A)
        if mode == "plain":
            return parts(lax.linalg.cholesky(S, symmetrize_input=False))
        if mode == "scipy":
            return parts(jsl.cholesky(S, lower=not upper))
        return parts(jnp.linalg.cholesky(S, upper=upper))

    return f, (draw.matrices(),)


def whitening(draw):
    spd = positive(widened(draw))

    def f(A, x):
        L = jnp.linalg.cholesky(spd(A))
        white = lax.linalg.triangular_solve(L, x.astype(L.dtype), left_side=True, lower=True)
        return parts(white)

    return f, (draw.matrices(), draw.array(*draw.stack, draw.size, 2))


def log_likelihood(draw):
    draw.stack = ()
    mode = draw.choose("cho_solve", "solve", "triangular")

    def f(A, x):
        S = A @ A.T + jnp.eye(A.shape[0])
        if mode == "solve":
            return -0.5 * x @ jnp.linalg.solve(S, x) - 0.5 * jnp.linalg.slogdet(S)[1]
        if mode == "cho_solve":
            factor = jsl.cho_factor(S, lower=True)
            diagonal = jnp.diagonal(factor[0])
            return -0.5 * x @ jsl.cho_solve(factor, x) - jnp.sum(jnp.log(diagonal))
        L = jnp.linalg.cholesky(S)
        z = jsl.solve_triangular(L, x, lower=True)
        return -0.5 * jnp.sum(z**2) - jnp.sum(jnp.log(jnp.diagonal(L)))

    return f, (draw.matrices(), draw.array(draw.size))


def kalman_stack(draw):
    draw.is_complex = False
    seen = draw.choose(1, 2)

    def f(P, H, m):
        S = H @ P @ adjoint(H) + jnp.eye(seen)
        gain = adjoint(jnp.linalg.solve(S, H @ P))
        return m + (gain @ (jnp.ones((seen, 1)) - H @ m)), P - gain @ H @ P

    shapes = ((seen, draw.size), (draw.size, 1))
    rest = [draw.array(*draw.stack, *shape) for shape in shapes]
    A = draw.matrices()
    return f, (A @ adjoint(A), *rest)


def eigenvalue_sum(draw):
    wide = widened(draw)
    function = draw.choose(jnp.exp, jnp.sin, lambda w: jnp.log(1 + w**2))

    def f(A):
        H = wide(A) + adjoint(wide(A))
        return jnp.sum(function(jnp.linalg.eigvalsh(H)), -1)

    return f, (draw.matrices(),)


def matrix_function(draw):
    wide = widened(draw)

    def f(A):
        values, vectors = jnp.linalg.eigh(wide(A) + adjoint(wide(A)))
        return parts((vectors * jnp.tanh(values)[..., None, :]) @ adjoint(vectors)), vectors.real

    return f, (draw.matrices(),)


def spectral_filter(draw):
    n = draw.choose(1, 2, 3, 4, 5, 8)

    def f(x, h):
        return jnp.fft.irfft(jnp.fft.rfft(x) * h, n=n)

    return f, (draw.array(*draw.stack, n), draw.array(n // 2 + 1))


def power_spectrum(draw):
    n = draw.choose(1, 2, 3, 4, 6)
    transform = draw.choose(jnp.fft.fft, jnp.fft.rfft, jnp.fft.ifft)
    norm, length = draw.choose(None, "ortho", "forward"), draw.choose(None, n + 1, n)

    def f(x):
        return jnp.abs(transform(x, n=length, norm=norm)) ** 2

    return f, (draw.array(*draw.stack, n),)


def round_trip(draw):
    wide = widened(draw)
    forward, backward = draw.choose(
        (jnp.fft.fftn, jnp.fft.ifftn), (jnp.fft.fft2, jnp.fft.ifft2), (jnp.fft.ifft2, jnp.fft.fft2)
    )

    def f(x):
        return parts(backward(jnp.sin(1.0) * forward(wide(x)) ** 2))

    return f, (draw.array(*draw.stack[:1], draw.size, draw.choose(1, 2, 3)),)


def real_round_trip(draw):
    shape = draw.size, draw.choose(1, 2, 3, 4)

    def f(x):
        spectrum = jnp.fft.rfftn(x, axes=(-2, -1))
        return jnp.fft.irfftn(spectrum * (1 + 0.5j), s=shape, axes=(-2, -1))

    return f, (draw.array(*draw.stack[:1], *shape),)


def inverses(draw):
    wide = widened(draw)
    return lambda A: parts(jnp.linalg.inv(wide(A))), (draw.matrices(),)


def solutions(draw):
    wide, is_vector, repeats = widened(draw), draw.choose(False, True), draw.choose(0, 1, 2)
    right = (draw.size,) if is_vector else (draw.size, draw.choose(1, 2, 3))
    stack = () if is_vector else ((), draw.stack, tuple(1 for _ in draw.stack))[repeats]
    by_turns = draw.choose(False, True)

    def f(A, b):
        return parts(jnp.linalg.solve(wide(A), b * (1 + 1j) if by_turns else b))

    return f, (draw.matrices(), draw.array(*stack, *right))


def determinants(draw):
    wide = widened(draw)
    return lambda A: parts(jnp.linalg.det(wide(A))), (draw.matrices(),)


def log_determinants(draw):
    wide = widened(draw)
    return lambda A: jnp.linalg.slogdet(wide(A))[1] ** 2, (draw.matrices(),)


def triangular(draw):
    wide = widened(draw)
    options = {name: draw.choose(False, True) for name in ("left_side", "lower", "transpose_a")} | {
        name: draw.choose(False, False, True) for name in ("conjugate_a", "unit_diagonal")
    }
    columns = draw.choose(1, 2, 3)
    shape = (draw.size, columns) if options["left_side"] else (columns, draw.size)

    def f(A, b):
        A, b = wide(A), wide(b)
        return parts(lax.linalg.triangular_solve(A, b, **options))

    return f, (draw.matrices(), draw.array(*draw.stack, *shape))


def scipy_triangular(draw):
    draw.stack = ()
    lower, trans = draw.choose(False, True), draw.choose(0, 1, 2)
    unit = draw.choose(False, True)
    shape = draw.choose((draw.size,), (draw.size, 2))

    def f(A, b):
        return jsl.solve_triangular(A, b, lower=lower, trans=trans, unit_diagonal=unit)

    return f, (draw.matrices(), draw.array(*shape))


def orthogonal(draw):
    rows, which = draw.size + draw.choose(0, 0, 1, 2), draw.choose(0, 1, slice(None))
    return lambda A: tuple(jnp.linalg.qr(A))[which], (draw.matrices(rows, draw.size),)


def singular_values(draw):
    wide, columns = widened(draw), draw.choose(1, 2, 3, 4)
    with_vectors = draw.choose(False, True)

    def f(A):
        if with_vectors:
            return jnp.linalg.svd(wide(A), full_matrices=False)[1]
        return jnp.linalg.svd(wide(A), compute_uv=False) ** 2

    if with_vectors:
        draw.is_complex = False
        wide = widened(draw)
    return f, (draw.matrices(draw.size, columns),)


def singular_vectors(draw):
    columns = draw.choose(1, 2, 3, 4)

    def f(A):
        left, values, right = jnp.linalg.svd(A, full_matrices=False)
        return left, (left * values[..., None, :]) @ right, right**2

    return f, (draw.matrices(draw.size, columns),)


def pivoted(draw):
    draw.stack = draw.stack[:1]

    def f(A):
        return jsl.lu_factor(A)[0]

    return f, (draw.matrices(),)


def in_a_step(draw):
    draw.stack = ()
    kind = draw.choose("cholesky", "eigh", "fft", "triangular")

    @blockjac.step("phi")
    def phi(S, x):
        if kind == "cholesky":
            return jnp.linalg.cholesky(S) @ x
        if kind == "eigh":
            return jnp.linalg.eigh(S)[0] * x
        if kind == "fft":
            return jnp.real(jnp.fft.fft(S @ x))
        return jsl.solve_triangular(S, x, lower=True)

    def f(A, x):
        return jnp.sum(jnp.sin(phi(A @ A.T + jnp.eye(draw.size), x)))

    return f, (draw.matrices(), draw.array(draw.size))


FAMILIES = (
    log_determinant,
    cholesky_factor,
    whitening,
    log_likelihood,
    kalman_stack,
    eigenvalue_sum,
    matrix_function,
    spectral_filter,
    power_spectrum,
    round_trip,
    real_round_trip,
    inverses,
    solutions,
    determinants,
    log_determinants,
    triangular,
    scipy_triangular,
    orthogonal,
    singular_values,
    singular_vectors,
    pivoted,
    in_a_step,
)


def program(family, seed):
    """A function and its arguments, the same for the same seed."""
    return family(Draw((FAMILIES.index(family), seed)))


def jacobians(function, arguments):
    """By every argument, of every result, by JAX alone."""
    return jax.tree.leaves(jax.jacfwd(function, tuple(range(len(arguments))))(*arguments))
