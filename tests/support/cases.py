"""The table of rules: for each, calls that show all that it has to get right.

A row is a function with its arguments; a tuple of ints stands for floats of that shape, anything
else for itself.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.experimental.layout import Layout, with_layout_constraint


@dataclass(frozen=True)
class Case:
    """One call.

    Attributes:
        function: of the arguments; its results, an array or several, are differentiated with
            respect to every float.
        arguments: shapes, whose entries are drawn between `low` and `high`, or arrays.
        low: as said.
        high: as said.
        smooth: whether second derivatives are compared too.
        holes: whether JAX has nan (zero times infinity) where our structure has no entry.
        modes: the oracles that JAX has.
    """

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    low: float = -2.0
    high: float = 2.0
    smooth: bool = True
    holes: bool = False
    modes: tuple[str, ...] = ("forward", "reverse")

    def values(self, dtype: Any = float) -> list[Any]:
        random = np.random.default_rng(0)
        return [
            jnp.asarray(random.uniform(self.low, self.high, argument), dtype)
            if isinstance(argument, tuple)
            else argument
            for argument in self.arguments
        ]


def floats(*values: float) -> jax.Array:
    return jnp.array(values, float)


def kink(function: Callable[..., Any], *arguments: Any) -> Case:
    """A call at points without second derivatives, where JAX may have nan off the structure."""
    return Case(function, arguments, smooth=False, holes=True)


inf, nan = np.inf, np.nan

FAR_OFF = 2**40 if jax.config.jax_enable_x64 else 2**30
"""A place past the end of every array, as large as the default integers allow."""

FORWARD_ONLY = ("forward",)
"""For what jax.jacrev gets wrong or refuses in JAX 0.10: `pad` with respect to its value alone."""

# Elementwise functions of one operand: name, function, domain
UNARY = {
    "neg": (lax.neg, -2, 2),
    "square": (lax.square, -2, 2),
    "sqrt": (lax.sqrt, 0.1, 3),
    "rsqrt": (lax.rsqrt, 0.1, 3),
    "cbrt": (lax.cbrt, 0.1, 3),
    "exp": (lax.exp, -2, 2),
    "exp2": (lax.exp2, -2, 2),
    "expm1": (lax.expm1, -2, 2),
    "log": (lax.log, 0.1, 3),
    "log1p": (lax.log1p, -0.5, 3),
    "logistic": (lax.logistic, -3, 3),
    "sin": (lax.sin, -3, 3),
    "cos": (lax.cos, -3, 3),
    "tan": (lax.tan, -1, 1),
    "asin": (lax.asin, -0.9, 0.9),
    "acos": (lax.acos, -0.9, 0.9),
    "atan": (lax.atan, -3, 3),
    "sinh": (lax.sinh, -2, 2),
    "cosh": (lax.cosh, -2, 2),
    "tanh": (lax.tanh, -2, 2),
    "asinh": (lax.asinh, -3, 3),
    "acosh": (lax.acosh, 1.2, 3),
    "atanh": (lax.atanh, -0.9, 0.9),
    "erf": (lax.erf, -2, 2),
    "erfc": (lax.erfc, -2, 2),
    "erf_inv": (lax.erf_inv, -0.9, 0.9),
    "lgamma": (lax.lgamma, 0.5, 4),
    "digamma": (lax.digamma, 0.5, 4),
    "bessel_i0e": (lax.bessel_i0e, -3, 3),
    "bessel_i1e": (lax.bessel_i1e, -3, 3),
    "abs": (lax.abs, 0.1, 3),
    "copy": (partial(jnp.array, copy=True), -2, 2),
    "name": (lambda x: checkpoint_name(x, "here"), -2, 2),
    "integer_pow": (lambda x: lax.integer_pow(x, 5), -2, 2),
    "stop_gradient": (lambda x: x * lax.stop_gradient(x * x), -2, 2),
    "sharding_constraint": (
        lambda x: lax.with_sharding_constraint(
            x, jax.sharding.SingleDeviceSharding(jax.devices()[0])
        ),
        -2,
        2,
    ),
    "device_put": (jax.device_put, -2, 2),
}
if hasattr(lax, "log2"):
    UNARY["log2"] = (lax.log2, 0.1, 3)
if hasattr(lax, "polynomial"):
    UNARY["polynomial"] = (lambda x: lax.polynomial(x, [1.0, -2.0, 0.5, 3.0]), -2, 2)
if hasattr(lax, "one_minus_square"):
    UNARY["one_minus_square"] = (lax.one_minus_square, -2, 2)


def _product_and_sum(one: tuple[Any, Any], other: tuple[Any, Any]) -> tuple[Any, Any]:
    """The product of the first of all pairs, and the sum of the second."""
    return one[0] * other[0], one[1] + other[1]


CASES: dict[str, Case] = {}
for _name, (_function, _low, _high) in UNARY.items():
    CASES[_name] = Case(_function, ((2, 3),), _low, _high)

CASES |= {
    # Shapes that every elementwise rule shares
    "sin-scalar": Case(jnp.sin, ((),)),
    "tanh-empty": Case(lax.tanh, ((0, 3),)),
    "mul-broadcast-empty": Case(jnp.multiply, ((1, 1), (1, 0))),
    "div-broadcast-empty": Case(jnp.divide, ((2, 1), (1, 0)), 1, 2),
    "exp-ones": Case(jnp.exp, ((1, 1),)),
    "sin-batched": Case(jax.vmap(jnp.sin), ((3, 2),)),
    "mul-twice": Case(lambda x: x * x, ((2, 3),)),
    "add-twice": Case(lambda x: x + x, ((3,),)),
    "div-mean-of-nothing": Case(jnp.mean, ((0, 3),)),
    "div-twice": Case(lambda x: x / x, ((3,),), 0.5, 2),
    "mul-broadcast-itself": Case(lambda x: x[:, None] * x[None, :], ((3,),)),
    # Arithmetic
    "add": Case(lax.add, ((2, 3), (2, 3))),
    "add-bias": Case(jnp.add, ((4, 3), (1, 3))),
    "add-scalar": Case(jnp.add, ((4, 3), ())),
    "add-literal": Case(lambda x: 1.5 + x, ((3,),)),
    "add_any": Case(jax.grad(lambda x: jnp.sum(jnp.sin(x) * x * x)), ((3,),)),
    "sub": Case(lax.sub, ((2, 3), (2, 3))),
    "sub-rows-columns": Case(jnp.subtract, ((2, 1), (1, 3))),
    "sub-literal": Case(lambda x: 1.5 - x, ((3,),)),
    "mul": Case(lax.mul, ((2, 3), (2, 3))),
    "mul-rows-columns": Case(jnp.multiply, ((2, 1), (1, 3))),
    "mul-one-by-one": Case(jnp.multiply, ((1, 1), (4, 1))),
    "mul-literal": Case(lambda x: -3.0 * x, ((3,),)),
    "div": Case(lax.div, ((2, 3), (2, 3)), 0.5, 2),
    "div-scalar": Case(jnp.divide, ((2, 3), ()), 0.5, 2),
    "div-literal": Case(lambda x: 2.0 / x + x / 4.0, ((3,),), 0.5, 2),
    "rem": Case(lax.rem, ((5,), (5,)), 0.7, 5),
    "rem-signs": Case(lax.rem, (floats(5, -5, 5, -5), floats(3, 3, -3, -3))),
    "rem-literal": Case(lambda x: lax.rem(x, jnp.full_like(x, 0.7)), ((5,),)),
    # Powers
    "pow": Case(lax.pow, ((2, 3), (2, 3)), 0.3, 2),
    "pow-literal-base": Case(lambda x: 2.5**x, ((3,),)),
    "pow-literal-exponent": Case(lambda x: x**2.5, ((3,),), 0.3, 2),
    "pow-int-exponents": Case(lax.pow, ((4,), jnp.array([0, 1, 2, -3]))),
    "pow-at-zero": kink(lax.pow, floats(0, 0, 0, 2, -2, 3), floats(2, 0.5, 1, 0, 3, -1)),
    "pow-zero-zero": kink(lax.pow, floats(0, 0), floats(0, 0)),
    "pow-int-exponents-at-zero": kink(lambda x: lax.pow(x, jnp.array([0, 1, 2])), floats(0, 0, 0)),
    "pow-literal-at-zero": kink(lambda x: x**1.5, floats(0, 1)),
    "pow-zero-base-literal": kink(lambda x: 0.0**x, floats(0.5, 2)),
    "integer_pow-0": Case(lambda x: lax.integer_pow(x, 0) + x, ((3,),)),
    "integer_pow-1": Case(lambda x: lax.integer_pow(x, 1), ((3,),)),
    "integer_pow-2": Case(lambda x: lax.integer_pow(x, 2), ((3,),)),
    "integer_pow-negative": Case(lambda x: lax.integer_pow(x, -3), ((3,),), 0.5, 2),
    "integer_pow-at-zero": kink(lambda x: lax.integer_pow(x, 3), floats(0, 1)),
    # Tails and branch points
    "tanh-tails": kink(jnp.tanh, floats(-30, -19, -8, 0, 8, 19, 30)),
    "logistic-tails": kink(lax.logistic, floats(-800, -40, -20, 0, 20, 40, 800)),
    "softplus-tails": kink(jax.nn.softplus, floats(-800, -40, 0, 40, 800)),
    "expm1-small": kink(lax.expm1, floats(-1e-20, 0, 1e-300, -50)),
    "log1p-small": kink(lax.log1p, floats(-1e-20, 0, 1e-300, 1e300)),
    "asinh-large": kink(lax.asinh, floats(-1e100, 0, 1e-300, 1e100)),
    "acosh-near-one": kink(lax.acosh, floats(1 + 1e-3, 1.5, 1e100)),
    "atanh-near-one": kink(lax.atanh, floats(-1 + 1e-12, 0, 1 - 1e-12)),
    "asin-at-one": kink(lax.asin, floats(-1, 0, 1)),
    "erf-tails": kink(lax.erf, floats(-30, 0, 5, 30)),
    "erf_inv-tails": kink(lax.erf_inv, floats(-1 + 1e-12, 0, 1 - 1e-9)),
    "sqrt-at-zero": kink(lax.sqrt, floats(0, 1)),
    "sqrt-scalar-zero": kink(lax.sqrt, floats(0)[0]),
    "rsqrt-at-zero": kink(lax.rsqrt, floats(0, 1)),
    "cbrt-negative": kink(lax.cbrt, floats(-8, 0, 1e-200)),
    "log-at-zero": kink(lax.log, floats(0, 1)),
    "exp-overflow": kink(lax.exp, floats(800, -800)),
    "bessel_i1e-small": kink(lax.bessel_i1e, floats(0, 1e-17, -1e-17, 1e-5, 700)),
    "bessel_i0e-small": kink(lax.bessel_i0e, floats(1e-17, -1e-17, -1e-5, 700)),
    "lgamma-large": kink(lax.lgamma, floats(1e-3, 1e5, 1e10)),
    "nan": kink(lambda x: jnp.sin(x) * x, floats(nan, 1)),
    # Two operands and more
    "atan2": Case(lax.atan2, ((2, 3), (2, 3))),
    "atan2-broadcast": Case(jnp.arctan2, ((2, 1), (3,))),
    "atan2-axes": kink(lax.atan2, floats(0, 1, 0, -1), floats(1, 0, -1, 0)),
    "igamma": Case(lax.igamma, ((3,), (3,)), 0.5, 3, smooth=False),
    "igammac": Case(lax.igammac, ((3,), (3,)), 0.5, 3, smooth=False),
    "igamma-second": Case(lambda x: lax.igamma(jnp.full_like(x, 2.5), x), ((3,),), 0.5, 3),
    "polygamma": Case(lambda x: lax.polygamma(jnp.ones_like(x), x), ((3,),), 0.5, 3),
    "regularized_incomplete_beta": Case(
        lambda x: jax.scipy.special.betainc(2.5, 1.5, x), ((3,),), 0.1, 0.9
    ),
    "betainc-arrays": Case(
        lambda x: lax.betainc(jnp.full_like(x, 2.0), jnp.full_like(x, 3.0), x), ((3,),), 0.1, 0.9
    ),
    "random_gamma": Case(
        lambda a: jax.random.gamma(jax.random.key(0), a), ((3,),), 0.3, 3, smooth=False
    ),
    "random_gamma-log": Case(
        lambda a: jax.random.loggamma(jax.random.key(0), a), ((2, 2),), 0.01, 3, smooth=False
    ),
    # Kinks
    "max": Case(lax.max, ((2, 3), (2, 3)), smooth=False),
    "min": Case(lax.min, ((2, 3), (2, 3)), smooth=False),
    "max-broadcast": Case(jnp.maximum, ((2, 1), (3,)), smooth=False),
    "max-ties": kink(lax.max, floats(1, 2, 3), floats(1, 3, 2)),
    "min-ties": kink(lax.min, floats(1, 2, 3), floats(1, 3, 2)),
    "max-itself": kink(lambda x: jnp.maximum(x, x), floats(1, 2)),
    "max-literal-tie": kink(lambda x: jnp.maximum(x, 0.0), floats(-1, 0, 1)),
    "max-nan": kink(lax.max, floats(nan, 1), floats(1, nan)),
    "relu-at-zero": kink(jax.nn.relu, floats(-1, 0, 1)),
    "abs-at-zero": kink(lax.abs, floats(-1, -0.0, 0, 2)),
    "clamp": Case(lax.clamp, ((4,), (4,), (4,)), smooth=False),
    "clamp-each-bound": Case(
        lax.clamp,
        (floats(0, 0, 0, 0), floats(-1, 0.5, 2, 0.2), floats(1, 1, 1, 1)),
        smooth=False,
    ),
    "clamp-literals": Case(
        lambda x: lax.clamp(x.dtype.type(-0.5), x, x.dtype.type(0.5)), ((2, 4),), smooth=False
    ),
    "clamp-ties": kink(lax.clamp, floats(0, 0, 0, 2), floats(0, 1, 0.5, 1), floats(1, 1, 1, 1)),
    # Conversions
    "convert_element_type": Case(
        lambda x: x.astype(jnp.float32) ** 2,
        ((3,),),
        smooth=False,
        modes=("reverse",),  # the input's dtype; jax.jacfwd gives the result's
    ),
    "convert-through-int": Case(lambda x: x * jnp.floor(x).astype(int), ((3,),), smooth=False),
    "convert-from-int": Case(lambda x: x * jnp.arange(3).astype(x.dtype), ((3,),)),
    "reduce_precision": kink(lambda x: lax.reduce_precision(x, 5, 4), floats(0.5, 1.25)),
    "layout_constraint": Case(
        lambda x: with_layout_constraint(x, Layout(major_to_minor=(0, 1))), ((2, 3),)
    ),
    "optimization_barrier": Case(lambda x, y: lax.optimization_barrier((x * y, y)), ((3,), (3,))),
    # Whole axes
    "broadcast_in_dim": Case(lambda x: jnp.broadcast_to(x, (4, 2, 3)), ((2, 3),)),
    "broadcast-size-1": Case(lambda x: jnp.broadcast_to(x, (4, 2, 3)), ((2, 1),)),
    "broadcast-scalar": Case(lambda x: jnp.broadcast_to(x, (2, 3)), ((),)),
    "broadcast-empty": Case(lambda x: jnp.broadcast_to(x, (0, 3)), ((3,),)),
    "transpose": Case(lambda x: jnp.transpose(x, (2, 0, 1)), ((2, 3, 4),)),
    "transpose-twice": Case(lambda x: x.T @ x, ((3, 2),)),
    "squeeze": Case(lambda x: jnp.squeeze(x, (0, 2)), ((1, 3, 1),)),
    "expand_dims": Case(lambda x: jnp.expand_dims(x, (0, 2)), ((3, 2),)),
    "select_n": Case(lambda x, y: jnp.where(jnp.array([True, False, True]), x, y), ((3,), (3,))),
    "select_n-scalar-predicate": Case(
        lambda x, y: lax.select_n(jnp.array(True), x, y), ((3,), (3,))
    ),
    "select_n-three": Case(
        lambda x, y, z: lax.select_n(jnp.array([0, 2, 1, 0]), x, y, z), ((4,), (4,), (4,))
    ),
    "select_n-broadcast": Case(
        lambda x, y: jnp.where(jnp.array([[True], [False]]), x, y), ((2, 3), (1, 3))
    ),
    "select_n-nan-not-taken": kink(lambda x: jnp.where(x > 0, jnp.log(x), 0.0), floats(-1, 0, 2)),
    "reshape": Case(lambda x: x.reshape(6, 4), ((2, 3, 4),)),
    "reshape-indivisible": Case(lambda x: x.reshape(3, 2), ((2, 3),)),
    "reshape-flat": Case(lambda x: x.ravel(), ((2, 1, 3),)),
    "reshape-deep": Case(lambda x: x.reshape(4, 3, 2), ((2, 3, 4),)),
    "reshape-scalar": Case(lambda x: x.reshape(1, 1), ((),)),
    "reshape-permuted": Case(lambda x: lax.reshape(x, (8, 3), (2, 0, 1)), ((2, 3, 4),)),
    "reshape-empty": Case(lambda x: x.reshape(3, 0), ((0, 2),)),
    "slice": Case(lambda x: x[1:4, ::2], ((5, 6),)),
    "slice-itself": Case(lambda x: x[1:] * x[:-1], ((5,),)),
    "slice-last": Case(lambda x: x[-1], ((3, 2),)),
    "slice-empty": Case(lambda x: x[2:2], ((3, 2),)),
    "rev": Case(lambda x: lax.rev(x, (0, 2)), ((2, 3, 2),)),
    "rev-step": Case(lambda x: x[::-2], ((5,),)),
    "pad": Case(
        lambda x, v: lax.pad(x, v, ((1, 2, 0), (0, 1, 2))), ((2, 3), ()), modes=FORWARD_ONLY
    ),
    "pad-negative": Case(
        lambda x, v: lax.pad(x, v, ((-1, 2, 1), (1, -2, 0))), ((4, 3), ()), modes=FORWARD_ONLY
    ),
    "pad-negative-interior": Case(
        lambda x, v: lax.pad(x, v, ((-3, -1, 2),)), ((5,), ()), modes=FORWARD_ONLY
    ),
    "pad-literal": Case(lambda x: lax.pad(x, x.dtype.type(0), ((1, 1, 1),)), ((3,),)),
    "pad-empty": Case(lambda x, v: lax.pad(x, v, ((1, 1, 1),)), ((0,), ()), modes=FORWARD_ONLY),
    "pad-nothing-left": Case(
        lambda x, v: lax.pad(x, v, ((-2, 0, 0),)), ((2,), ()), modes=FORWARD_ONLY
    ),
    "concatenate": Case(lambda x, y: jnp.concatenate([x, y, x], axis=1), ((2, 3), (2, 1))),
    "concatenate-empty": Case(lambda x, y: jnp.concatenate([x, y]), ((3,), (0,))),
    "split": Case(lambda x: [x * x for x in jnp.split(x, [2, 3], axis=1)], ((2, 5),)),
    "split-one": Case(lambda x: lax.split(x, (3,)), ((3,),)),
    "stack": Case(lambda x, y: jnp.stack([x, y, x], axis=1), ((2, 3), (2, 3))),
    "stack-scalars": Case(lambda x, y: jnp.stack([x, y]), ((), ())),
    "unstack": Case(lambda x: jnp.unstack(x, axis=1), ((2, 3),)),
    "unstack-one": Case(lambda x: jnp.unstack(x), ((1, 3),)),
    "tile": Case(lambda x: jnp.tile(x, (2, 3)), ((2, 2),)),
    "tile-size-1": Case(lambda x: jnp.tile(x, (1, 4)), ((3, 1),)),
    "tile-product": Case(lambda x: jnp.tile(x, 3) * jnp.repeat(x, 3), ((4,),)),
    "roll": Case(lambda x: jnp.roll(x, 2, axis=0), ((5, 2),)),
    "diagonal": Case(lambda x: jnp.diagonal(x), ((3, 3),)),
    # Reductions
    "reduce_sum": Case(lambda x: jnp.sum(x, axis=1), ((2, 3, 4),)),
    "reduce_sum-all": Case(lambda x: jnp.sum(x), ((2, 3),)),
    "reduce_sum-none": Case(lambda x: lax.reduce_sum(x, axes=()), ((2, 3),)),
    "reduce_sum-empty": Case(lambda x: jnp.sum(x, axis=0), ((0, 3),)),
    "reduce_sum-of-broadcast": Case(lambda x: jnp.sum(jnp.broadcast_to(x, (5, 3)), 0), ((3,),)),
    "reduce_sum-batched": Case(jax.vmap(jnp.sum), ((3, 2),)),
    "reduce_max": Case(lambda x: jnp.max(x, axis=(0, 2)), ((2, 3, 4),), smooth=False),
    "reduce_min": Case(lambda x: jnp.min(x), ((2, 3),), smooth=False),
    "reduce_max-ties": kink(
        lambda x: jnp.max(x, axis=1), jnp.array([[1.0, 3, 3, 2], [0, 0, 0, 0]])
    ),
    "reduce_min-ties": kink(
        lambda x: jnp.min(x, axis=0), jnp.array([[1.0, 3, 3, 2], [0, 3, 4, 2]])
    ),
    "reduce_prod": Case(lambda x: jnp.prod(x, axis=1), ((2, 3, 2),)),
    "reduce_prod-all": Case(lambda x: jnp.prod(x), ((2, 3),)),
    "reduce_prod-one": Case(lambda x: jnp.prod(x, axis=0), ((1, 3),)),
    "reduce_prod-zero": Case(jnp.prod, (floats(2, 0, 3, 4),)),
    "reduce_prod-zeros": Case(jnp.prod, (floats(2, 0, 3, 0, 5),)),
    "reduce_prod-empty": Case(lambda x: jnp.prod(x, axis=0), ((0, 3),)),
    "reduce": Case(
        lambda x: lax.reduce(x, x.dtype.type(0), lambda a, b: lax.sqrt(a * a + b * b), (0, 2)),
        ((3, 2, 2),),
        0.5,
        2,
    ),
    "reduce-two": Case(
        lambda x: lax.reduce(
            (x, x * x), (x.dtype.type(1), x.dtype.type(0)), _product_and_sum, (1,)
        ),
        ((2, 5),),
    ),  # JAX wants all operands differentiated, and a function that commutes
    "reduce-empty": Case(
        lambda x: lax.reduce(x, x.dtype.type(1), lambda a, b: jnp.sin(a) * b, (0,)), ((0, 2),)
    ),
    "cumsum": Case(lambda x: lax.cumsum(x, 1), ((2, 4),)),
    "cumsum-reverse": Case(lambda x: lax.cumsum(x * x, 0, reverse=True), ((4, 2),)),
    "cumsum-of-product": Case(lambda x, y: lax.cumsum(x @ y, 1) * y, ((3, 3), (3, 3))),
    "cumsum-twice": Case(lambda x: lax.cumsum(lax.cumsum(jnp.sin(x), 0), 0), ((5,),)),
    "cumsum-one": Case(lambda x: lax.cumsum(x, 0), ((1, 2),)),
    "cumsum-empty": Case(lambda x: lax.cumsum(x, 0), ((0, 2),)),
    "cumsum-of-broadcast": Case(lambda x: lax.cumsum(jnp.broadcast_to(x, (4,)), 0), ((),)),
    "cumsum-added": Case(lambda x: lax.cumsum(x, 0) + x + lax.cumsum(x, 0, reverse=True), ((4,),)),
    "cumprod": Case(lambda x: lax.cumprod(x, 1), ((2, 4),)),
    "cumprod-reverse": Case(lambda x: lax.cumprod(x, 0, reverse=True), ((4, 2),)),
    "cumprod-zeros": Case(lambda x: lax.cumprod(x, 0), (floats(2, 0, 3, 0, 5),)),
    "cumprod-one": Case(lambda x: lax.cumprod(x, 0), ((1,),)),
    "cumlogsumexp": Case(lambda x: lax.cumlogsumexp(x, 1), ((2, 4),)),
    "cumlogsumexp-reverse": Case(lambda x: lax.cumlogsumexp(x, 0, reverse=True), ((4, 2),)),
    "cumlogsumexp-far": kink(lambda x: lax.cumlogsumexp(x, 0), floats(0, 800, -800, 900)),
    "cumprod-long": Case(lambda x: lax.cumprod(x, 0), ((150,),), 0.9, 1.1, smooth=False),
    "cumprod-long-zeros": Case(
        lambda x: lax.cumprod(x.at[jnp.array([3, 140])].set(0) * x, 0, reverse=True),
        ((150,),),
        0.9,
        1.1,
        smooth=False,
    ),
    "cumlogsumexp-long": Case(
        lambda x, y: jnp.sum(lax.cumlogsumexp(x * y, 1, reverse=True), 0), ((2, 150), (2, 1))
    ),
    "cummax": Case(lambda x: lax.cummax(x, 1), ((2, 5),)),
    "cummax-reverse": Case(lambda x: lax.cummax(x * x, 0, reverse=True), ((6, 2),)),
    "cummax-ties": kink(lambda x: lax.cummax(x, 0), floats(0, 2, 2, 0, 2, 3, 3, 3)),
    "cummax-empty": Case(lambda x: lax.cummax(x, 0), ((0, 2),)),
    "cummax-of-broadcast": kink(lambda x: lax.cummax(jnp.broadcast_to(x, (4,)), 0), floats(2)),
    "cummin": Case(lambda x, y: lax.cummin(x * y, 0) * y, ((5, 2), (1, 2))),
    "cummin-ties": kink(lambda x: lax.cummin(x, 1, reverse=True), floats(1, 2, 1, 1, 0)[None]),
    # Contractions
    "dot_general": Case(jnp.matmul, ((2, 3), (3, 4))),
    "dot-vectors": Case(jnp.dot, ((3,), (3,))),
    "dot-itself": Case(lambda x: x @ x, ((3, 3),)),
    "dot-gram": Case(lambda x: jnp.einsum("ni,nj->ij", x, x), ((4, 3),)),
    "dot-batched": Case(jnp.matmul, ((4, 2, 3), (4, 3, 2))),
    "dot-size-1": Case(jnp.matmul, ((1, 3), (3, 1))),
    "dot-inner-1": Case(jnp.matmul, ((2, 1), (1, 3))),
    "dot-outer": Case(lambda x, y: lax.dot_general(x, y, (((), ()), ((), ()))), ((2,), (3,))),
    "dot-two-axes": Case(lambda x, y: jnp.einsum("abcd,dbe->cae", x, y), ((2, 3, 2, 2), (2, 3, 2))),
    "dot-empty": Case(jnp.matmul, ((2, 0), (0, 3))),
}

# Indexing

_rows = jnp.array([2, 0, 2, -1])
CASES |= {
    "gather": Case(lambda x: x[_rows], ((4, 3),)),
    "gather-pairs": Case(lambda x: x[_rows, jnp.array([0, 1, 1, 2])], ((4, 3),)),
    "gather-columns": Case(lambda x: x[:, _rows], ((3, 4),)),
    "gather-of-itself": Case(lambda x: x[_rows] * x[_rows[::-1]], ((4,),)),
    "gather-clip": Case(lambda x: jnp.take(x, jnp.array([-7, 1, 9]), 0, mode="clip"), ((4, 3),)),
    "gather-wrap": Case(lambda x: jnp.take(x, jnp.array([-7, 1, 9]), 0, mode="wrap"), ((4, 3),)),
    "gather-fill": Case(
        lambda x: x.at[jnp.array([-9, 1, 9])].get(mode="fill", fill_value=0.0), ((4, 3),)
    ),
    "gather-promise": Case(lambda x: x.at[_rows % 4].get(mode="promise_in_bounds"), ((4, 3),)),
    "gather-unsigned": Case(
        lambda x: x.at[jnp.array([250, 1], jnp.uint8)].get(mode="fill", fill_value=0.0), ((4,),)
    ),
    "gather-int8-long-axis": Case(
        lambda x: lax.gather(
            x,
            jnp.array([[100], [-3]], jnp.int8),
            lax.GatherDimensionNumbers((), (0,), (0,)),
            (1,),
            mode="fill",
            fill_value=0.0,
        ),
        ((300,),),
    ),
    "gather-huge-index": Case(
        lambda x: x.at[jnp.array([FAR_OFF, 1, -FAR_OFF])].get(mode="fill", fill_value=0.0), ((4,),)
    ),
    "gather-windows": Case(
        lambda x: lax.gather(
            x,
            jnp.array([[0, 1], [2, 2], [3, 0]]),
            lax.GatherDimensionNumbers((1, 2), (), (0, 1)),
            (2, 2),
            mode="clip",
        ),
        ((4, 3),),
    ),
    "gather-windows-fill": Case(
        lambda x: lax.gather(
            x,
            jnp.array([[0, 1], [3, 1], [-1, 0]]),
            lax.GatherDimensionNumbers((1, 2), (), (0, 1)),
            (2, 2),
            mode="fill",
            fill_value=0.0,
        ),
        ((4, 3),),
    ),
    "gather-batched": Case(
        jax.vmap(lambda x, i: x[i]), ((3, 4), jnp.array([[0, 1], [3, 3], [2, 0]]))
    ),
    "gather-batched-operand": Case(jax.vmap(lambda x: x[_rows]), ((3, 4),)),
    "take_along_axis": Case(
        lambda x: jnp.take_along_axis(x, jnp.array([[0, 2], [1, 1]]), 1), ((2, 3),)
    ),
    "gather-no-rows": Case(lambda x: x[jnp.zeros(0, int)], ((4, 3),)),
    "gather-one-row": Case(lambda x: x[jnp.array([0])], ((1, 3),)),
    "gather-scalar": Case(lambda x, i: x[i], ((4, 3), jnp.array(2))),
    "embedding": Case(lambda t, w: t[_rows] @ w, ((4, 3), (3, 2))),
    "dynamic_slice": Case(
        lambda x, i: lax.dynamic_slice(x, (i, 1), (2, 2)), ((4, 3), jnp.array(1))
    ),
    "dynamic_slice-clipped": Case(
        lambda x, i, j: lax.dynamic_slice(x, (i, j), (2, 2)), ((4, 3), jnp.array(9), jnp.array(-9))
    ),
    "dynamic_slice-whole": Case(
        lambda x, i: lax.dynamic_slice(x, (i,), (4,)), ((4,), jnp.array(3))
    ),
    "dynamic_slice-uint8": Case(
        lambda x, i: lax.dynamic_slice(x, (i,), (2,)),
        ((300,), jnp.array(200, jnp.uint8)),
        smooth=False,
        modes=FORWARD_ONLY,  # jax.jacrev writes such a slice at place 0
    ),
    "dynamic_slice-huge": Case(
        lambda x, i: lax.dynamic_slice(x, (i,), (2,)), ((4,), jnp.array(FAR_OFF))
    ),
    "dynamic_index": Case(lambda x, i: x[i] * x, ((4,), jnp.array(-1))),
    "dynamic_update_slice": Case(
        lambda x, u, i: lax.dynamic_update_slice(x, u, (i, 1)), ((4, 3), (2, 2), jnp.array(1))
    ),
    "dynamic_update_slice-clipped": Case(
        lambda x, u, i: lax.dynamic_update_slice(x, u, (i, i)), ((4, 3), (2, 2), jnp.array(9))
    ),
    "dynamic_update_slice-whole": Case(
        lambda x, u, i: lax.dynamic_update_slice(x, u, (i,)), ((3,), (3,), jnp.array(2))
    ),
    "dynamic_update_slice-itself": Case(
        lambda x, i: lax.dynamic_update_slice(x, jnp.sin(x[:2]), (i,)), ((5,), jnp.array(2))
    ),
    "scatter-add": Case(lambda x, u: x.at[_rows].add(u), ((4, 3), (4, 3))),
    "scatter-add-drop": Case(
        lambda x, u: x.at[jnp.array([-9, 1, 9])].add(u, mode="drop"), ((4,), (3,))
    ),
    "scatter-add-clip": Case(
        lambda x, u: x.at[jnp.array([-9, 1, 9])].add(u, mode="clip"),
        ((4,), (3,)),
    ),
    "scatter-add-windows": Case(
        lambda x, u: lax.scatter_add(
            x,
            jnp.array([[0], [3], [1]]),
            u,
            lax.ScatterDimensionNumbers((1,), (), (0,)),
        ),
        ((4,), (3, 2)),
    ),
    "scatter-add-batched": Case(
        jax.vmap(lambda x, i, u: x.at[i].add(u)),
        ((2, 4), jnp.array([[0, 0, 3], [1, 2, 1]]), (2, 3)),
    ),
    "scatter-add-itself": Case(lambda x: x.at[_rows].add(x * x), ((4,),)),
    "scatter-sub": Case(lambda x, u: x.at[_rows].subtract(u), ((4, 3), (4, 3))),
    "segment_sum": Case(lambda x: jax.ops.segment_sum(x, jnp.array([0, 2, 2, 0, 1]), 3), ((5, 2),)),
    "scatter": Case(lambda x, u: x.at[jnp.array([3, 0])].set(u), ((4, 3), (2, 3))),
    "scatter-unique": Case(
        lambda x, u: x.at[jnp.array([3, 0])].set(u, unique_indices=True), ((4, 3), (2, 3))
    ),
    "scatter-same-place": Case(lambda x, u: x.at[_rows].set(u), ((4, 3), (4, 3))),
    "scatter-drop": Case(lambda x, u: x.at[jnp.array([9, 1])].set(u, mode="drop"), ((4,), (2,))),
    "scatter-one": Case(lambda x, u, i: x.at[i].set(u), ((4, 3), (), jnp.array(2))),
    "scatter-slice": Case(lambda x, u: x.at[1:3].set(u), ((4, 3), (2, 3))),
    "scatter-literal": Case(lambda x: x.at[jnp.array([1, 2])].set(0.0) * x, ((4,),)),
    "scatter-batched": Case(
        jax.vmap(lambda x, i, u: x.at[i].set(u)),
        ((2, 4), jnp.array([[0, 3], [1, 2]]), (2, 2)),
    ),
    "scatter-min": Case(lambda x, u: x.at[_rows].min(u), ((4,), (4,)), smooth=False),
    "scatter-max": Case(lambda x, u: x.at[_rows].max(u), ((4, 2), (4, 2)), smooth=False),
    "scatter-min-both-ways": Case(
        lambda x, u: x.at[jnp.array([0, 1, 1])].min(u),
        (floats(1, 2, 3), floats(0, 5, 1)),
        smooth=False,
    ),
    "scatter-max-ties": Case(
        lambda x, u: x.at[jnp.array([0, 0, 1, 1, 2])].max(u),
        (floats(1, 2, 3, 4), floats(1, 1, 5, 5, 0)),
        smooth=False,
    ),
    "scatter-mul": Case(
        lambda x, u: x.at[jnp.array([3, 0])].multiply(u, unique_indices=True),
        ((4, 2), (2, 2)),
        smooth=False,
    ),
    "sort": Case(lambda x: jnp.sort(x, axis=0), ((4, 3),)),
    "sort-scalar-axis": Case(lambda x: jnp.sort(x, axis=0), ((1, 3),)),
    "sort-ties": kink(lambda x: jnp.sort(x), floats(2, 1, 2, 1, 1)),
    "sort-descending": Case(lambda x: jnp.sort(x, descending=True), ((5,),)),
    "sort-several": Case(lambda x, y: lax.sort((x, y, x * y), num_keys=1), ((5,), (5,))),
    "sort-two-keys": Case(
        lambda x, y: lax.sort((jnp.round(x), y, x * y), num_keys=2, dimension=0), ((5, 2), (5, 2))
    ),
    "sort-int-key": Case(lambda x: lax.sort((jnp.array([3, 1, 2]), x), num_keys=1)[1], ((3,),)),
    "median": Case(jnp.median, ((4,),)),
    "top_k": Case(lambda x: lax.top_k(x, 2)[0], ((3, 5),)),
    "top_k-ties": kink(lambda x: lax.top_k(x, 3)[0], floats(1, 2, 2, 2, 0)),
    "approx_top_k": Case(lambda x: lax.approx_max_k(x, 2)[0], ((3, 5),)),
    # Windows
    "reduce_window_sum": Case(
        lambda x: lax.reduce_window(x, 0.0, lax.add, (2, 3), (1, 1), "VALID"), ((4, 5),)
    ),
    "reduce_window_sum-same-twice": Case(
        lambda x: lax.reduce_window(
            lax.reduce_window(x, 0.0, lax.add, (3,), (1,), "SAME"), 0.0, lax.add, (3,), (1,), "SAME"
        ),
        ((5,),),
    ),
    "reduce_window_sum-strides": Case(
        lambda x: lax.reduce_window(x * x, 0.0, lax.add, (2, 2), (2, 3), "SAME"), ((5, 4),)
    ),
    "reduce_window_sum-dilated": Case(
        lambda x: lax.reduce_window(
            x, 0.0, lax.add, (2,), (1,), ((1, 2),), base_dilation=(2,), window_dilation=(2,)
        ),
        ((5,),),
    ),
    "reduce_window_max": Case(
        lambda x: lax.reduce_window(x, -inf, lax.max, (2, 2), (2, 2), "VALID"), ((4, 6),)
    ),
    "reduce_window_max-same": Case(
        lambda x: lax.reduce_window(x, -inf, lax.max, (3, 2), (1, 2), "SAME"), ((4, 5),)
    ),
    "reduce_window_max-ties": kink(
        lambda x: lax.reduce_window(x, -inf, lax.max, (3,), (1,), "SAME"), floats(1, 2, 2, 0, 0, 0)
    ),
    "reduce_window_min": Case(
        lambda x: lax.reduce_window(x, inf, lax.min, (2,), (1,), ((2, 2),), base_dilation=(2,)),
        ((4,),),
    ),
    "reduce_window_max-no-window": Case(
        lambda x: lax.reduce_window(x, -inf, lax.max, (3,), (1,), "VALID"), ((2,),), smooth=False
    ),
    "reduce_window_sum-no-window": Case(
        lambda x: lax.reduce_window(x, 0.0, lax.add, (3,), (1,), "VALID"), ((2,),)
    ),
    "reduce_window_max-wide": Case(
        lambda x: lax.reduce_window(x, -inf, lax.max, (12, 11), (1, 2), ((6, 0), (0, 3))),
        ((14, 12),),
        smooth=False,
    ),
    "reduce_window_min-wide-dilated": Case(
        lambda x: lax.reduce_window(
            x, inf, lax.min, (130,), (60,), ((3, 3),), base_dilation=(2,), window_dilation=(2,)
        ),
        ((150,),),
        smooth=False,
        modes=FORWARD_ONLY,
    ),
    "reduce_window_max-wide-ties": kink(
        lambda x: lax.reduce_window(jnp.round(x), -inf, lax.max, (130,), (1,), "VALID") * x[:2],
        jnp.sin(jnp.arange(131.0)),
    ),
    "select_and_gather_add": Case(
        lambda t: jax.jvp(
            lambda x: lax.reduce_window(x, -inf, lax.max, (2, 2), (2, 1), "SAME"),
            (jnp.sin(jnp.arange(12.0, dtype=t.dtype).reshape(3, 4) * 5),),
            (t,),
        )[1],
        ((3, 4),),
    ),
    "select_and_scatter_add": Case(
        jax.grad(
            lambda x: jnp.sum(lax.reduce_window(x, -inf, lax.max, (2, 2), (1, 1), "SAME") ** 3)
        ),
        ((3, 4),),
    ),
}
