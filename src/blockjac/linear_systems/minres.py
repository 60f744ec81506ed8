"""MINRES: symmetric systems without a matrix, also indefinite ones.

Lanczos' process makes an orthonormal basis of the Krylov space in which the matrix is tridiagonal.
Rotations make that a triangle column by column, so that the residual is as small as the space
allows at every step, with a few vectors in memory and no division that an indefinite matrix could
make zero.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, cast

import jax
import jax.numpy as jnp

Product = Callable[[jax.Array], jax.Array]
"""A linear function of vectors."""


State = TypeVar("State")
"""Of an iteration: it has a `step` and `is_done`."""


class _State(NamedTuple):
    """Between two steps."""

    step: Any
    x: jax.Array
    before: jax.Array  # the vectors of Lanczos' process, not normalized, at the step before
    now: jax.Array  # and at this one
    now_preconditioned: jax.Array
    beta_before: jax.Array  # the norms of those
    beta: jax.Array
    cosine: jax.Array  # of the last rotation
    sine: jax.Array
    above: jax.Array  # what the last rotation left above the diagonal of the next column
    second_above: jax.Array  # and above that
    directions: tuple[jax.Array, jax.Array]  # the last two, of which the next is made
    residual: jax.Array  # its norm
    matrix: jax.Array  # the square of the norm of the tridiagonal matrix
    largest: jax.Array  # entry of the triangle's diagonal
    smallest: jax.Array
    is_done: jax.Array


def minres(
    product: Product,
    right: jax.Array,
    *,
    preconditioned: Product,
    atol: float,
    btol: float,
    conlim: float,
    steps: int,
) -> jax.Array:
    """The `x` that makes the norm of `right - product(x)` least, for a symmetric product.

    Norms are those of the preconditioner, `sqrt(r' M r)`.

    Args:
        product: the matrix times a vector; real and symmetric.
        right: `(n,)`.
        preconditioned: a positive definite M times a vector, near the inverse of the matrix.
        atol: stop once `|r| <= atol |A| |x| + btol |b|`, or `|A r| <= atol |A| |r|` as where the
            system has no solution.
        btol: see `atol`.
        conlim: stop once the condition number of the matrix is estimated to be above this.
        steps: at most how many are taken.

    Source:
        Paige and Saunders, "Solution of sparse indefinite systems of linear equations", SIAM
        Journal on Numerical Analysis 12, 1975.
    """
    zeros, dtype = jnp.zeros_like(right), right.dtype
    number = jnp.asarray(0, dtype)
    tiny = cast("Any", jnp.finfo(dtype)).tiny
    first = preconditioned(right)
    length = jnp.sqrt(jnp.maximum(right @ first, 0))
    start = _State(
        step=0,
        x=zeros,
        before=zeros,
        now=right,
        now_preconditioned=first,
        beta_before=number,
        beta=length,
        cosine=number - 1,
        sine=number,
        above=number,
        second_above=number,
        directions=(zeros, zeros),
        residual=length,
        matrix=number,
        largest=number,
        smallest=number + jnp.inf,
        is_done=length == 0,
    )

    def step(state: _State) -> _State:
        """One more vector of the basis, one more rotation."""
        v = state.now_preconditioned / state.beta
        image = product(v)
        is_first = state.beta_before == 0
        ratio = jnp.where(is_first, 0, state.beta / jnp.where(is_first, 1, state.beta_before))
        image = image - ratio * state.before
        alpha = v @ image
        following = image - (alpha / state.beta) * state.now
        preconditioned_following = preconditioned(following)
        beta = jnp.sqrt(jnp.maximum(following @ preconditioned_following, 0))
        delta = state.cosine * state.above + state.sine * alpha
        corner = state.sine * state.above - state.cosine * alpha
        diagonal = jnp.maximum(jnp.hypot(corner, beta), tiny)
        cosine, sine = corner / diagonal, beta / diagonal
        older, old = state.directions
        direction = (v - state.second_above * older - delta * old) / diagonal
        residual = sine * state.residual
        matrix = state.matrix + alpha**2 + beta**2 + jnp.where(is_first, 0, state.beta**2)
        largest = jnp.maximum(state.largest, diagonal)
        smallest = jnp.minimum(state.smallest, diagonal)
        norm = jnp.sqrt(matrix)
        left = jnp.hypot(corner, state.cosine * beta)  # |A r| of the last x is |r| times this
        is_least = left <= atol * norm  # so that a further step would divide by next to nothing
        x = jnp.where(is_least, state.x, state.x + cosine * state.residual * direction)
        is_done = (
            (residual <= btol * length + atol * norm * jnp.sqrt(x @ x))
            | is_least
            | (largest >= conlim * smallest)
            | (beta == 0)
        )
        return _State(
            step=state.step + 1,
            x=x,
            before=state.now,
            now=following,
            now_preconditioned=preconditioned_following,
            beta_before=state.beta,
            beta=beta,
            cosine=cosine,
            sine=sine,
            above=-state.cosine * beta,
            second_above=state.sine * beta,
            directions=(old, direction),
            residual=residual,
            matrix=matrix,
            largest=largest,
            smallest=smallest,
            is_done=is_done,
        )

    return until_done(step, start, steps).x


def until_done(step: Callable[[State], State], start: State, steps: int) -> State:
    """The state after the step at which it `is_done`, or after a number of steps."""

    def goes_on(state: Any) -> jax.Array:
        return (state.step < steps) & ~state.is_done

    return jax.lax.while_loop(goes_on, step, start)
