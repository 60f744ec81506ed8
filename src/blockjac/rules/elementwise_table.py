"""Elementwise primitives: each rule is its derivative, of the result `y` and the operands.

Where a formula has a special case (a tie, a kink, a branch point), the value is the one that JAX takes.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import lax

from blockjac.rules.registry import elementwise, zero

# Arithmetic
elementwise("add", lambda y, a, b: 1.0, lambda y, a, b: 1.0)
elementwise("add_any", lambda y, a, b: 1.0, lambda y, a, b: 1.0)
elementwise("sub", lambda y, a, b: 1.0, lambda y, a, b: -1.0)
elementwise("mul", lambda y, a, b: b, lambda y, a, b: a)
elementwise("div", lambda y, a, b: 1 / b, lambda y, a, b: -y / b)
elementwise("neg", lambda y, x: -1.0)
elementwise("square", lambda y, x: 2 * x)
elementwise("sqrt", lambda y, x: 0.5 / y)
elementwise("rsqrt", lambda y, x: -0.5 * y / x)
elementwise("integer_pow", lambda out, x, *, y: _power_slope(x, y))
elementwise("pow", lambda y, a, b: _pow_base(a, b), lambda y, a, b: _pow_exponent(y, a, b))

# Exponentials and logarithms
elementwise("exp", lambda y, x: y)
elementwise("log", lambda y, x: 1 / x)
elementwise("log1p", lambda y, x: 1 / (1 + x))
elementwise("expm1", lambda y, x: y + 1)
elementwise("logistic", lambda y, x: y * (1 - y))
elementwise("tanh", lambda y, x: (1 - y) * (1 + y))

# Kinks
elementwise("max", lambda y, a, b: _chosen(a > b, a == b), lambda y, a, b: _chosen(a < b, a == b))
elementwise("min", lambda y, a, b: _chosen(a < b, a == b), lambda y, a, b: _chosen(a > b, a == b))
elementwise("abs", lambda y, x: jnp.sign(x))

# Copies
elementwise("convert_element_type", lambda y, x: 1.0)
elementwise("reduce_precision", lambda y, x: 1.0)
elementwise("copy", lambda y, x: 1.0)
elementwise("copy_p", lambda y, x: 1.0)
elementwise("name", lambda y, x: 1.0)

zero("stop_gradient", "sign", "floor", "ceil", "round", "is_finite", "eq", "ne", "lt", "le", "gt", "ge")
zero("and", "or", "xor", "not", "argmax", "argmin", "iota", "random_bits", "random_wrap", "random_unwrap")
zero("random_seed", "random_split", "random_fold_in", "bitcast_convert_type", "shift_left")
zero("shift_right_logical", "shift_right_arithmetic", "reduce_or", "reduce_and", "population_count", "clz")
zero("eq_to", "le_to", "lt_to", "mulhi", "nextafter")


def _power_slope(x: Any, power: int) -> Any:
    if power == 0:
        return 0.0
    return 1.0 if power == 1 else power * (x if power == 2 else lax.integer_pow(x, power - 1))


def _pow_base(a: Any, b: Any) -> Any:
    """`b a**(b-1)`, and 0 where b is 0 whatever a is."""
    if isinstance(b, float):
        return 0.0 if b == 0 else b * a ** (b - 1)
    exponent = jnp.where(b == 0, jnp.ones_like(b), b)
    return jnp.where(b == 0, 0, b * jnp.power(a, exponent - 1))


def _pow_exponent(y: Any, a: Any, b: Any) -> Any:
    """`log(a) a**b`, and 0 where a is 0 and b positive."""
    base = jnp.asarray(a, y.dtype)
    safe = jnp.where(base == 0, jnp.ones_like(base), base)
    return jnp.where(base == 0, jnp.where(jnp.asarray(b) >= 0, 0.0, jnp.nan).astype(y.dtype), jnp.log(safe) * y)


def _chosen(strictly: Any, tied: Any) -> Any:
    """1 where the operand is chosen, 1/2 at a tie, which both operands share, 0 elsewhere."""
    return jnp.where(tied, 0.5, strictly.astype(jnp.result_type(float)))
