"""Diagonals of Hessians by JAX alone, from dense ones."""

import math

import jax
import jax.numpy as jnp


def diagonal_by_jax(fun):
    """The diagonals of the dense Hessians of a function of one array, of complex results too."""

    def diagonal(x):
        x = jnp.asarray(x)
        result = jax.eval_shape(fun, x)
        if jnp.issubdtype(result.dtype, jnp.complexfloating):
            return of_real(lambda x: jnp.real(fun(x)), x) + 1j * of_real(
                lambda x: jnp.imag(fun(x)), x
            )
        return of_real(fun, x)

    def of_real(fun, x):
        shape, size = x.shape, math.prod(x.shape)
        try:
            hessian = jax.jacfwd(jax.jacrev(fun))(x)
        except ValueError:  # a loop that has no way back
            hessian = jax.jacfwd(jax.jacfwd(fun))(x)
        leading = hessian.shape[: hessian.ndim - 2 * len(shape)]
        square = hessian.reshape(*leading, size, size)
        return jnp.diagonal(square, axis1=-2, axis2=-1).reshape(*leading, *shape)

    return diagonal


def laplacian_by_jax(fun):
    """The traces of the dense Hessians."""

    def laplacian(x):
        diagonal = diagonal_by_jax(fun)(x)
        rank = jnp.ndim(x)
        return jnp.sum(diagonal, axis=tuple(range(diagonal.ndim - rank, diagonal.ndim)))

    return laplacian
