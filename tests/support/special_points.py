"""Special functions at removable points, branch points and saturated ends, and the truth by mpmath.

A row is a function of one number, the same for mpmath, and where to differentiate both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import jax.scipy.special as jsp
import mpmath as mp

Function = Callable[[Any], Any]


@dataclass(frozen=True)
class Row:
    """One function at some points.

    Attributes:
        function: of a float array of shape ().
        truth: of an mpmath number.
        points: where.
        orders: of the derivatives.
        rtol: of the answer; also an absolute tolerance of a millionth of it.
    """

    function: Function
    truth: Function
    points: Sequence[float]
    orders: Sequence[int] = (1, 2, 3)
    rtol: float = 1e-6


ENDS = (0.0, -40.0, -800.0, 40.0, 800.0)
"""The middle, and where exponentials round to nothing, or overflow."""


def logistic(x: Any) -> Any:
    return 1 / (1 + mp.exp(-x))


def softplus(x: Any) -> Any:
    return mp.log1p(mp.exp(x))


def normal(x: Any) -> Any:
    return mp.erfc(-x / mp.sqrt(2)) / 2


def scaled(order: int, x: Any) -> Any:
    return mp.exp(-x) * mp.besseli(order, x)


def power(exponent: int, x: Any) -> Any:
    return mp.mpf(x) ** exponent if exponent else mp.mpf(1)


def lower_gamma(a: int, x: Any) -> Any:
    """The regularized lower function of an integer, by its finite sum."""
    return 1 - mp.exp(-x) * sum(x**k / mp.factorial(k) for k in range(a))


def beta_polynomial(a: int, b: int, x: Any) -> Any:
    """The regularized incomplete beta function of integers, a polynomial."""
    last = a + b - 1
    return sum(mp.binomial(last, k) * x**k * (1 - x) ** (last - k) for k in range(a, last + 1))


def tanh_gelu(x: Any) -> Any:
    return x / 2 * (1 + mp.tanh(mp.sqrt(2 / mp.pi) * (x + mp.mpf("0.044715") * x**3)))


REMOVABLE = {
    "sinc": Row(jnp.sinc, lambda x: mp.sinc(mp.pi * x), (0.0, 1e-8, 1e-3, 0.4, 1.0, -2.3, 30.0)),
    "numpy.i0": Row(jnp.i0, partial(mp.besseli, 0), (0.0, 1e-10, 1e-4, 0.3, -2.0, 30.0)),
    "special.i0": Row(jsp.i0, partial(mp.besseli, 0), (0.0, 1e-10, 1e-4, 0.3, -2.0, 30.0)),
    "special.i1": Row(jsp.i1, partial(mp.besseli, 1), (0.0, 1e-10, 1e-4, 0.3, -2.0, 30.0)),
    "i0e": Row(jsp.i0e, partial(scaled, 0), (1e-10, 1e-4, 0.3, 30.0)),
    "i1e": Row(jsp.i1e, partial(scaled, 1), (1e-10, 1e-4, 0.3, 0.999, 1.001, 30.0)),
    "xlogy(0, y)": Row(lambda y: jsp.xlogy(0.0, y), lambda y: mp.mpf(0), (0.0, 0.3)),
    "xlogy(2, y)": Row(lambda y: jsp.xlogy(2.0, y), lambda y: 2 * mp.log(y), (1e-10, 0.3, 1.0)),
    "xlogy(x, 2)": Row(lambda x: jsp.xlogy(x, 2.0), lambda x: x * mp.log(2), (0.0, 0.3)),
    "xlog1py(0, y)": Row(lambda y: jsp.xlog1py(0.0, y), lambda y: mp.mpf(0), (0.0, -1.0, 0.3)),
    "xlog1py(2, y)": Row(lambda y: jsp.xlog1py(2.0, y), lambda y: 2 * mp.log1p(y), (0.0, -0.999)),
    "entr": Row(jsp.entr, lambda x: -x * mp.log(x), (1e-10, 0.3, 1.0, 5.0)),
    "rel_entr(0, y)": Row(lambda y: jsp.rel_entr(0.0, y), lambda y: mp.mpf(0), (0.4, 0.3)),
    "rel_entr(x, 0.5)": Row(
        lambda x: jsp.rel_entr(x, 0.5), lambda x: x * mp.log(2 * x), (1e-10, 0.5)
    ),
    "kl_div(x, 0.5)": Row(
        lambda x: jsp.kl_div(x, 0.5), lambda x: x * mp.log(2 * x) - x + 0.5, (1e-10, 0.5)
    ),
    "hypot(x, 1)": Row(
        lambda x: jnp.hypot(x, 1.0), lambda x: mp.sqrt(x * x + 1), (0.0, 1e-200, 10.0)
    ),
    "arctan2(x, 1)": Row(lambda x: jnp.arctan2(x, 1.0), mp.atan, (0.0, 1e-200, 1e3)),
    "arctan2(1, x)": Row(
        lambda x: jnp.arctan2(1.0, x), lambda x: mp.pi / 2 - mp.atan(x), (0.0, 1e-200, 1e3)
    ),
    "logaddexp of itself": Row(lambda x: jnp.logaddexp(x, x), lambda x: x + mp.log(2), (0.0, 3.0)),
    "logsumexp with nothing": Row(
        lambda x: jsp.logsumexp(jnp.stack([x, -jnp.inf + 0 * x])), lambda x: x, (0.0, 1.0)
    ),
    "factorial": Row(jsp.factorial, lambda x: mp.gamma(x + 1), (0.0, 1.0, 4.0)),
    "norm": Row(
        lambda x: jnp.linalg.norm(jnp.stack([x, 3.0 + 0 * x])),
        lambda x: mp.sqrt(x * x + 9),
        (0.0, 0.5),
    ),
}

SATURATED = {
    "expit": Row(jsp.expit, logistic, ENDS),
    "sigmoid": Row(jax.nn.sigmoid, logistic, ENDS),
    "log_sigmoid": Row(jax.nn.log_sigmoid, lambda x: -softplus(-x), ENDS),
    "softplus": Row(jax.nn.softplus, softplus, ENDS),
    "logaddexp": Row(lambda x: jnp.logaddexp(x, 0.0), softplus, ENDS),
    "logsumexp": Row(lambda x: jsp.logsumexp(jnp.stack([x, 0 * x])), softplus, ENDS),
    "softmax": Row(lambda x: jax.nn.softmax(jnp.stack([x, 0 * x]))[0], logistic, ENDS),
    "log_softmax": Row(
        lambda x: jax.nn.log_softmax(jnp.stack([x, 0 * x]))[0], lambda x: -softplus(-x), ENDS
    ),
    "silu": Row(jax.nn.silu, lambda x: x * logistic(x), ENDS),
    "mish": Row(jax.nn.mish, lambda x: x * mp.tanh(softplus(x)), ENDS),
    "gelu": Row(
        partial(jax.nn.gelu, approximate=False), lambda x: x * normal(x), (0.0, -9.0, -40.0, 40.0)
    ),
    "gelu by tanh": Row(jax.nn.gelu, tanh_gelu, (0.0, -3.0, -40.0, 40.0)),
    "tanh": Row(jnp.tanh, mp.tanh, (0.0, 15.0, -800.0, 400.0)),
    "erf": Row(jsp.erf, mp.erf, (0.0, 6.0, 30.0, -0.3)),
    "erfc": Row(jsp.erfc, mp.erfc, (0.0, 6.0, 30.0, -30.0)),
    "ndtr": Row(jsp.ndtr, normal, (0.0, -10.0, 10.0, -40.0, 1.0)),
    "log_ndtr": Row(jsp.log_ndtr, lambda x: mp.log(normal(x)), (0.0, -5.0, 5.0, 10.0)),
    "ndtri": Row(jsp.ndtri, lambda p: mp.sqrt(2) * mp.erfinv(2 * p - 1), (0.5, 0.1, 1e-9, 0.9)),
    "expm1": Row(jnp.expm1, mp.expm1, (0.0, -40.0, 1e-10, -800.0)),
    "log1p": Row(jnp.log1p, mp.log1p, (0.0, 1e-300, -0.5, 1e10)),
    "logit": Row(jsp.logit, lambda x: mp.log(x / (1 - x)), (1e-12, 0.5, 1 - 1e-9)),
}

GAMMA = {
    "gammaln": Row(jsp.gammaln, mp.loggamma, (1.0, 2.0, 0.5, 1e-8, 100.0)),
    "gamma": Row(jsp.gamma, mp.gamma, (1.0, 2.0, 0.5, -0.5, 1e-4, 20.0)),
    "digamma": Row(jsp.digamma, mp.digamma, (1.0, 0.5, 1e-4, 100.0, 1.4616321449683622)),
    "polygamma(1, x)": Row(partial(jsp.polygamma, 1), partial(mp.psi, 1), (1.0, 0.5, 30.0)),
    **{
        f"gammainc({a}, x)": Row(
            partial(jsp.gammainc, float(a)), partial(lower_gamma, a), (0.0, 1e-6, 0.3, 30.0)
        )
        for a in (1, 2, 3, 5)
    },
    "gammaincc(2, x)": Row(
        partial(jsp.gammaincc, 2.0), lambda x: 1 - lower_gamma(2, x), (0.0, 1e-6, 0.3, 30.0)
    ),
    **{
        f"betainc({a}, {b}, x)": Row(
            partial(jsp.betainc, float(a), float(b)),
            partial(beta_polynomial, a, b),
            (0.0, 0.3, 1.0),
        )
        for a, b in ((1, 1), (2, 3), (1, 3), (2, 1))
    },
}

POWERS = {
    **{f"x ** {n}": Row(lambda x, n=n: x**n, partial(power, n), (0.0, -1.5)) for n in range(5)},
    **{
        f"power(x, [{n}.])": Row(
            lambda x, n=n: jnp.power(x, jnp.asarray([float(n)]))[0], partial(power, n), (0.0, -1.5)
        )
        for n in range(5)
    },
    "0 ** x": Row(lambda x: 0.0**x, lambda x: mp.mpf(0), (1.0, 2.5)),
    "2 ** x": Row(lambda x: 2.0**x, lambda x: mp.power(2, x), (0.0, -1.5)),
    "x ** x": Row(lambda x: x**x, lambda x: mp.power(x, x), (1.0, 1e-3)),
    "cbrt": Row(jnp.cbrt, mp.cbrt, (1e-6, 8.0, 1e6)),
    "sqrt": Row(jnp.sqrt, mp.sqrt, (1e-8, 4.0)),
    "arccosh": Row(jnp.arccosh, mp.acosh, (1 + 1e-9, 1 + 1e-6, 1.5, 1e6)),
    "arcsin": Row(jnp.arcsin, mp.asin, (0.0, 0.5, 1 - 1e-8)),
    "arctanh": Row(jnp.arctanh, mp.atanh, (0.0, 0.5, 1 - 1e-8)),
    "arcsinh": Row(jnp.arcsinh, mp.asinh, (0.0, 1e5, -1e5)),
}

TABLE = REMOVABLE | SATURATED | GAMMA | POWERS
