"""Elementwise primitives: a rule is a derivative, a function of the result `y` and the operands.

Where a formula has a special case (a tie, a kink, a branch point), the value is that of JAX.
"""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from blockjac.blocks import Block
from blockjac.errors import NoDerivativeError
from blockjac.rules.building import known, scaling
from blockjac.rules.registry import elementwise, rule, zero

# Arithmetic


elementwise("add", lambda y, a, b: 1.0, lambda y, a, b: 1.0)
elementwise("add_any", lambda y, a, b: 1.0, lambda y, a, b: 1.0)
elementwise("sub", lambda y, a, b: 1.0, lambda y, a, b: -1.0)
elementwise("mul", lambda y, a, b: b, lambda y, a, b: a)
# by b not -y / b: the reciprocal is shared, and small loops are compiled whole without the division
elementwise("div", lambda y, a, b: 1 / b, lambda y, a, b: -y * (1 / b))
elementwise("rem", lambda y, a, b: 1.0, lambda y, a, b: -jnp.trunc(a / b))
elementwise("neg", lambda y, x: -1.0)
elementwise("nextafter", lambda y, a, b: 1.0, None)

# Powers and roots
elementwise("square", lambda y, x: 2 * x)
elementwise("one_minus_square", lambda y, x: -2 * x)
elementwise("sqrt", lambda y, x: 0.5 / y)
elementwise("rsqrt", lambda y, x: -0.5 * y / x)
elementwise("cbrt", lambda y, x: 1 / (3 * y * y))
elementwise("integer_pow", lambda out, x, *, y: _integer_power_slope(x, y))
elementwise("pow", lambda y, a, b: _power_slope(a, b), lambda y, a, b: _log_of_base(a) * y)

# Exponentials and logarithms
elementwise("exp", lambda y, x: y)
elementwise("exp2", lambda y, x: math.log(2) * y)
elementwise("expm1", lambda y, x: y + 1)
elementwise("log", lambda y, x: 1 / x)
elementwise("log2", lambda y, x: 1 / (math.log(2) * x))
elementwise("log1p", lambda y, x: 1 / (1 + x))
elementwise("logistic", lambda y, x: y * (1 - y))

# Circular functions and their inverses
elementwise("sin", lambda y, x: jnp.cos(x))
elementwise("cos", lambda y, x: -jnp.sin(x))
elementwise("tan", lambda y, x: 1 + y * y)
elementwise("asin", lambda y, x: lax.rsqrt(1 - x * x))
elementwise("acos", lambda y, x: -lax.rsqrt(1 - x * x))
elementwise("atan", lambda y, x: 1 / (1 + x * x))
elementwise("atan2", lambda y, a, b: b / (a * a + b * b), lambda y, a, b: -a / (a * a + b * b))

# Hyperbolic functions and their inverses
elementwise("sinh", lambda y, x: jnp.cosh(x))
elementwise("cosh", lambda y, x: jnp.sinh(x))
elementwise("tanh", lambda y, x: (1 - y) * (1 + y))
elementwise("asinh", lambda y, x: lax.rsqrt(x * x + 1))
elementwise("acosh", lambda y, x: lax.rsqrt(x - 1) * lax.rsqrt(x + 1))
elementwise("atanh", lambda y, x: 1 / ((1 - x) * (1 + x)))

# Special functions
elementwise("erf", lambda y, x: 2 / math.sqrt(math.pi) * jnp.exp(-x * x))
elementwise("erfc", lambda y, x: -2 / math.sqrt(math.pi) * jnp.exp(-x * x))
elementwise("erf_inv", lambda y, x: math.sqrt(math.pi) / 2 * jnp.exp(y * y))
elementwise("lgamma", lambda y, x: lax.digamma(x))
elementwise("digamma", lambda y, x: lax.polygamma(jnp.ones_like(x), x))
elementwise(
    "polygamma",
    lambda y, m, x: _unknown("polygamma", "its order"),
    lambda y, m, x: lax.polygamma(_like(m, y) + 1, _like(x, y)),
)
elementwise(
    "zeta",
    lambda y, s, q: _unknown("zeta", "its exponent"),
    lambda y, s, q: -s * lax.zeta(_like(s, y) + 1, _like(q, y)),
)
elementwise(
    "igamma",
    lambda y, a, x: lax.igamma_grad_a(_like(a, y), _like(x, y)),
    lambda y, a, x: _gamma_density(_like(a, y), _like(x, y)),
)
elementwise(
    "igammac",
    lambda y, a, x: -lax.igamma_grad_a(_like(a, y), _like(x, y)),
    lambda y, a, x: -_gamma_density(_like(a, y), _like(x, y)),
)
elementwise(
    "regularized_incomplete_beta",
    lambda y, a, b, x: _unknown("betainc", "a"),
    lambda y, a, b, x: _unknown("betainc", "b"),
    lambda y, a, b, x: _beta_density(_like(a, y), _like(b, y), _like(x, y)),
)
elementwise("random_gamma", None, lambda y, key, a, *, log_space: _gamma_slope(y, a, log_space))
elementwise("bessel_i0e", lambda y, x: lax.bessel_i1e(x) - _side(x) * y)
elementwise("bessel_i1e", lambda y, x: _bessel_i1e_slope(y, x))

# Kinks
elementwise("abs", lambda y, x: jnp.where(x >= 0, jnp.ones_like(x), -1))
elementwise("max", lambda y, a, b: _chosen(a > b, a == b), lambda y, a, b: _chosen(a < b, a == b))
elementwise("min", lambda y, a, b: _chosen(a < b, a == b), lambda y, a, b: _chosen(a > b, a == b))
elementwise(
    "clamp",
    lambda y, low, x, high: jnp.logical_and(jnp.greater(low, x), jnp.less(low, high)),
    lambda y, low, x, high: jnp.logical_and(jnp.greater(x, low), jnp.less(x, high)),
    lambda y, low, x, high: jnp.less(high, x),
)

# Copies
elementwise("convert_element_type", lambda y, x: 1.0)
elementwise("reduce_precision", lambda y, x: 1.0)
elementwise("copy", lambda y, x: 1.0)
elementwise("name", lambda y, x: 1.0)
elementwise("sharding_constraint", lambda y, x: 1.0)
elementwise("layout_constraint", lambda y, x: 1.0)
elementwise("reshard", lambda y, x: 1.0)

zero("stop_gradient", "sign", "floor", "ceil", "round", "is_finite", "eq", "ne", "lt", "le")
zero("gt", "ge", "eq_to", "le_to", "lt_to", "and", "or", "xor", "not", "mulhi", "clz")
zero("population_count", "shift_left", "shift_right_logical", "shift_right_arithmetic")
zero("argmax", "argmin", "reduce_or", "reduce_and", "reduce_xor", "iota", "bitcast_convert_type")
zero("random_bits", "random_wrap", "random_unwrap", "random_seed", "random_split", "random_fold_in")


@rule("polynomial")
def polynomial(out: Any, x: Any, *coefficients: Any, **_: Any) -> tuple[Block, ...]:
    """`out = sum_k c_k x**k`, elementwise.

    d out / d x = sum_k k c_k x**(k - 1)
    d out / d c_k = x**k
    """
    slope, power, powers = 0.0, 1.0, []
    for degree in range(len(coefficients) - 1, 0, -1):
        slope = slope * x + degree * coefficients[degree]
    for coefficient in coefficients:
        powers.append(scaling(out.shape, coefficient, power))
        power = power * x
    return (scaling(out.shape, x, slope), *powers)


def _like(operand: Any, y: Any) -> Any:
    """An operand with the result's dtype and shape, because special functions do not broadcast."""
    return jnp.broadcast_to(jnp.asarray(operand, y.dtype), y.shape)


def _integer_power_slope(x: Any, power: int) -> Any:
    """`n x**(n-1)`, a number where n is 0 or 1."""
    if power in (0, 1):
        return float(power)
    return power * (x if power == 2 else lax.integer_pow(x, power - 1))


def _power_slope(a: Any, b: Any) -> Any:
    """`b a**(b-1)`, and 0 where a and b are 0; its own slope by b is `1/a` at every other b = 0."""
    if known(b):
        return 0.0 if b == 0 else b * jnp.power(a, b - 1)
    both_zero = (a == 0) & (b == 0)
    return jnp.where(both_zero, 0, b * jnp.power(jnp.where(both_zero, 1, a), b - 1))


def _log_of_base(a: Any) -> Any:
    """`log(a)`, and 0 where a is 0: the slope of `0**b` is 0 for every positive b."""
    if known(a):
        return np.log(a) if a != 0 else 0.0
    return jnp.log(jnp.where(a == 0, jnp.ones_like(a), a))


def _gamma_slope(sample: Any, a: Any, log_space: bool) -> Any:
    """The derivative of a gamma sample, or of its logarithm, by the shape parameter."""
    drawn = sample
    if log_space:
        drawn = jnp.exp(sample)
        drawn = jnp.where(drawn == 0, jnp.finfo(sample.dtype).tiny, drawn)
    slope = lax.random_gamma_grad(_like(a, drawn), drawn)  # pyright: ignore[reportCallIssue]
    return slope / drawn if log_space else slope


def _gamma_density(a: Any, x: Any) -> Any:
    """`x**(a - 1) exp(-x) / gamma(a)`, computed without overflow from logarithms."""
    end = x == 0
    inside, at_end = jnp.where(end, 1, x), jnp.where(end, x, 0)
    density = jnp.exp((a - 1) * jnp.log(inside) - inside - lax.lgamma(a))
    end_density = lax.pow(at_end, a - 1) * jnp.exp(-at_end - lax.lgamma(a))
    return jnp.where(end, end_density, density)


def _beta_density(a: Any, b: Any, x: Any) -> Any:
    """`x**(a - 1) (1 - x)**(b - 1) / beta(a, b)`, computed from logarithms if 0 < x < 1."""
    log_beta = lax.lgamma(a) + lax.lgamma(b) - lax.lgamma(a + b)
    end = (x == 0) | (x == 1)
    inside, at_end = jnp.where(end, 0.5, x), jnp.where(end, x, 0)
    density = jnp.exp((b - 1) * jnp.log1p(-inside) + (a - 1) * jnp.log(inside) - log_beta)
    end_density = lax.pow(at_end, a - 1) * lax.pow(1 - at_end, b - 1) * jnp.exp(-log_beta)
    return jnp.where(end, end_density, density)


def _side(x: Any) -> Any:
    """The slope of `abs`, and 1 at 0: with another `exp(abs(x)) i0e(x)` would have a kink there."""
    return jnp.where(x >= 0, jnp.ones_like(x), -1)


def _bessel_i1e_slope(y: Any, x: Any) -> Any:
    """`i0e(x) - y (side(x) + 1/x)`; near 0 the quotient `y / x` comes from its power series.

    y / x = exp(-abs(x)) sum_k z^k / (2 k! (k+1)!) with z = x^2 / 4
    """
    near = jnp.abs(x) < 1
    z, series = jnp.where(near, x, 0) ** 2 / 4, jnp.zeros_like(x)
    for k in range(12, -1, -1):
        series = series * z + 0.5 / (math.factorial(k) * math.factorial(k + 1))
    size = jnp.where(near, x, 0) * _side(x)
    quotient = jnp.where(near, jnp.exp(-size) * series, y / jnp.where(near, 1, x))
    return lax.bessel_i0e(x) - _side(x) * y - quotient


def _chosen(strictly: Any, tied: Any) -> Any:
    """1 where the operand is chosen, 1/2 at a tie, which both operands share, 0 elsewhere."""
    return jnp.where(tied, 0.5, strictly.astype(jnp.result_type(float)))


def _unknown(function: str, operand: str) -> Any:
    """Refuse to differentiate a special function by an operand without a known formula."""
    raise NoDerivativeError(
        f"the derivative of {function} with respect to {operand} is not known, to JAX neither; "
        "give it one with blockjac.rules.define, "
        "or hold that operand constant with jax.lax.stop_gradient"
    )
