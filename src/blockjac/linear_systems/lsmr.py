"""LSMR: least squares without a matrix.

Golub and Kahan's process makes bases in which the matrix is bidiagonal. LSMR is MINRES with the
normal equations there, by two rotations for each step, and never multiplies the matrix with its
transpose: the norm of `A' r` falls at every step, and so does that of r.
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp

from blockjac.linear_systems.minres import Product, until_done


class _State(NamedTuple):
    """Between two steps."""

    step: Any
    x: jax.Array
    u: jax.Array  # the bases
    v: jax.Array
    alpha: jax.Array  # the diagonal of the bidiagonal matrix
    corner: jax.Array  # what the first rotation left of it
    rho: jax.Array  # the diagonal of the triangle after the first rotation
    rho_bar: jax.Array  # and after the second
    cosine_bar: jax.Array  # of the second rotation
    sine_bar: jax.Array
    zeta_bar: jax.Array  # whose size is the norm of A' r
    h: jax.Array  # the directions
    h_bar: jax.Array
    turn: jax.Array  # how much of the last h is taken from the next
    image: jax.Array  # the matrix times h
    image_bar: jax.Array  # and times h_bar
    residual: jax.Array
    matrix: jax.Array  # the square of the norm of the bidiagonal matrix
    largest: jax.Array  # entry of the triangle's diagonal
    smallest: jax.Array
    is_done: jax.Array


def lsmr(
    product: Product,
    transposed: Product,
    right: jax.Array,
    inputs: int,
    *,
    damp: Any,
    atol: float,
    btol: float,
    conlim: float,
    steps: int,
) -> jax.Array:
    """The shortest `x` that makes `|product(x) - right|^2 + damp^2 |x|^2` least.

    Args:
        product: the matrix times a vector `(n,)`, of any shape `(m, n)`; real.
        transposed: its transpose times a vector `(m,)`.
        right: `(m,)`.
        inputs: n.
        damp: the root of what is added to the diagonal of the normal equations.
        atol: stop once `|A' r| <= atol |A| |r|`, or `|r| <= btol |b| + atol |A| |x|`.
        btol: see `atol`.
        conlim: stop once the condition number of the matrix is estimated to be above this.
        steps: at most how many are taken.

    Source:
        Fong and Saunders, "LSMR: an iterative algorithm for sparse least-squares problems", SIAM
        Journal on Scientific Computing 33, 2011.
    """
    dtype = right.dtype
    number = jnp.asarray(0, dtype)
    damp = jnp.asarray(damp, dtype)
    u, beta = _normalized(right)
    v, alpha = _normalized(transposed(u))
    start = _State(
        step=0,
        x=jnp.zeros((inputs,), dtype),
        u=u,
        v=v,
        alpha=alpha,
        corner=alpha,
        rho=number + 1,
        rho_bar=number + 1,
        cosine_bar=number + 1,
        sine_bar=number,
        zeta_bar=alpha * beta,
        h=v,
        h_bar=jnp.zeros((inputs,), dtype),
        turn=number,
        image=jnp.zeros_like(right),
        image_bar=jnp.zeros_like(right),
        residual=right,
        matrix=alpha**2,
        largest=number,
        smallest=number + jnp.inf,
        is_done=alpha * beta == 0,
    )

    def step(state: _State) -> _State:
        """One more vector of each basis, two more rotations."""
        image = product(state.v)
        u, beta = _normalized(image - state.alpha * state.u)
        v, alpha = _normalized(transposed(u) - beta * state.v)
        damped = jnp.hypot(state.corner, damp)
        rho = _positive(jnp.hypot(damped, beta))
        cosine, sine = damped / rho, beta / rho
        theta, corner = sine * alpha, cosine * alpha
        theta_bar, turned = state.sine_bar * rho, state.cosine_bar * rho
        rho_bar = _positive(jnp.hypot(turned, theta))
        cosine_bar, sine_bar = turned / rho_bar, theta / rho_bar
        zeta, zeta_bar = cosine_bar * state.zeta_bar, -sine_bar * state.zeta_bar
        turn, length = theta_bar * rho / (state.rho * state.rho_bar), zeta / (rho * rho_bar)
        image = image - state.turn * state.image
        image_bar = image - turn * state.image_bar
        h_bar = state.h - turn * state.h_bar
        x, residual = state.x + length * h_bar, state.residual - length * image_bar
        matrix = state.matrix + beta**2 + alpha**2
        is_first = state.step == 0
        largest = jnp.where(is_first, 0, jnp.maximum(state.largest, state.rho_bar))
        smallest = jnp.where(is_first, jnp.inf, jnp.minimum(state.smallest, state.rho_bar))
        norm, size = jnp.sqrt(matrix), _length(right)
        least = jnp.sqrt(residual @ residual + damp**2 * (x @ x))
        is_done = (
            (jnp.abs(zeta_bar) <= atol * norm * least)
            | (least <= btol * size + atol * norm * _length(x))
            | (jnp.maximum(largest, turned) >= conlim * jnp.minimum(smallest, turned))
            | (alpha == 0)
        )
        return _State(
            step=state.step + 1,
            x=x,
            u=u,
            v=v,
            alpha=alpha,
            corner=corner,
            rho=rho,
            rho_bar=rho_bar,
            cosine_bar=cosine_bar,
            sine_bar=sine_bar,
            zeta_bar=zeta_bar,
            h=v - theta / rho * state.h,
            h_bar=h_bar,
            turn=theta / rho,
            image=image,
            image_bar=image_bar,
            residual=residual,
            matrix=matrix,
            largest=largest,
            smallest=smallest,
            is_done=is_done,
        )

    return until_done(step, start, steps).x


def _normalized(vector: jax.Array) -> tuple[jax.Array, jax.Array]:
    """A vector of length 1, and the length; zero stays zero."""
    length = _length(vector)
    return vector / jnp.where(length == 0, 1, length), length


def _length(vector: jax.Array) -> jax.Array:
    """The Euclidean norm."""
    return cast("jax.Array", jnp.linalg.norm(vector))


def _positive(value: jax.Array) -> jax.Array:
    """The number, above zero so that it can be divided by."""
    return jnp.maximum(value, cast("Any", jnp.finfo(value.dtype)).tiny)
