"""Maps that are linear in the real and imaginary parts, but not in complex numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from blockjac.blocks import Block, Factor, Index, Label, Term
from blockjac.rules.building import labels_of, made, over, plain
from blockjac.rules.complex_parts import (
    is_complex,
)
from blockjac.rules.fallback import real_dtype, vertex_shape


def _same_part(out: Any, operand: Any) -> Block:
    """`out = z`."""
    shape = vertex_shape(operand)
    del out
    return Block.identity(shape, real_dtype(operand.dtype))


def part_of(part: int, out: Any, operand: Any) -> Block:
    """`out = z[part]`: the real part (0) or the imaginary part (1)."""
    labels = plain(labels_of(out.shape))
    term = Term((), labels, (Index(part), *labels))
    return made(out.shape, vertex_shape(operand), real_dtype(operand.dtype), term)


def placed_part(part: int, out: Any, operand: Any) -> Block:
    """`out[part] = x`, and zero in the other part."""
    labels = plain(labels_of(operand.shape))
    term = Term((), (Index(part), *labels), labels)
    return made(vertex_shape(out), operand.shape, operand.dtype, term)


def conjugate(out: Any, operand: Any) -> Block:
    """`out = (re, -im)`; JAX's conj of a real number is a complex one."""
    if not is_complex(operand):
        return placed_part(0, out, operand)
    dtype = real_dtype(operand.dtype)
    labels = [Label(2), *labels_of(operand.shape)]
    signs = Factor(jnp.asarray([1, -1], dtype), (labels[0],))
    shape = vertex_shape(operand)
    return made(shape, shape, dtype, Term((signs,), plain(labels), plain(labels)))


def _absolute(out: Any, operand: Any) -> Block:
    """`d |z| = (re, im) / |z|`, and 0 where z is 0, as in JAX."""
    part, *labels = Label(2), *labels_of(operand.shape)
    size = jnp.where(out == 0, jnp.ones_like(out), out)
    # Stacked last: XLA sees through a part of what was stacked.
    slopes = jnp.stack([operand.real / size, operand.imag / size])
    factor = over(slopes, [part, *labels], out.dtype)
    term = Term((factor,), plain(labels), plain([part, *labels]))
    return made(out.shape, vertex_shape(operand), out.dtype, term)


def _converted(out: Any, operand: Any) -> Block:
    """Another precision, a complex number with no imaginary part, or the real part of one."""
    if is_complex(out) and is_complex(operand):
        return _same_part(out, operand)
    return placed_part(0, out, operand) if is_complex(out) else part_of(0, out, operand)


REAL_LINEAR: dict[str, Callable[[Any, Any], Block]] = {
    "abs": _absolute,
    "convert_element_type": _converted,
}
"""Rules of their own where complex numbers take part, for primitives of real numbers too."""
