"""What only JAX computes: random numbers, and functions that neither NumPy nor SciPy has."""

from __future__ import annotations

from typing import Any

import jax
import jax.extend.core.primitives as public

from blockjac.errors import SourceError
from blockjac.explanations.source.builder import Equation, Result, Translation
from blockjac.explanations.source.expressions import (
    Call,
    Expression,
    Text,
    call,
    integers,
    number,
)
from blockjac.explanations.source.program import OBJECT, Value
from blockjac.explanations.source.sorting import parts_of


def noted(equation: Equation, code: Expression, name: str) -> Value:
    """The result of a call of JAX; a NumPy module says so in a comment."""
    builder, out = equation.builder, equation.out
    if equation.module == "jnp":
        return builder.value(code, getattr(out, "shape", ()), out.dtype)
    is_array = not jax.numpy.issubdtype(out.dtype, jax.dtypes.prng_key)
    if is_array:
        code = call("np.asarray", code)
    value = builder.value(code, out.shape, out.dtype)
    if not value.comment:
        value.comment.append(f"NumPy has no {name}: JAX computes it.")
    return value


def _function(name: str) -> Translation:
    """A public function of JAX that takes the operands alone."""

    def translate(equation: Equation) -> Result:
        return noted(equation, call(name, *equation.all_exact()), name.rsplit(".", 1)[-1])

    return translate


def reduce_precision(equation: Equation) -> Result:
    """Fewer bits."""
    code = call(
        "lax.reduce_precision",
        equation.exact(0),
        number(int(equation.params["exponent_bits"])),
        number(int(equation.params["mantissa_bits"])),
    )
    return noted(equation, code, "reduce_precision")


def random_seed(equation: Equation) -> Result:
    """`jax.random.key(seed)`."""
    impl = str(getattr(equation.params["impl"], "name", equation.params["impl"]))
    options = {} if impl in ("fry", "threefry2x32") else {"impl": Text(f'"{impl}"')}
    return noted(equation, call("jax.random.key", _key_seed(equation), **options), "random keys")


def _key_seed(equation: Equation) -> Expression:
    """A seed as a number of Python where it is known."""
    known = equation.operands[0].known
    return number(int(known)) if known is not None and known.ndim == 0 else equation.exact(0)


def random_wrap(equation: Equation) -> Result:
    """A key from its bits."""
    return noted(equation, call("jax.random.wrap_key_data", equation.exact(0)), "random keys")


def random_unwrap(equation: Equation) -> Result:
    """The bits of a key."""
    return noted(equation, call("jax.random.key_data", equation.exact(0)), "random keys")


def random_bits(equation: Equation) -> Result:
    """Random bits of a key, or of each of several keys."""
    params = equation.params
    options: dict[str, Expression] = {
        "shape": integers(params["shape"]),
        "dtype": Text(f"jnp.uint{params['bit_width']}"),
    }
    if equation.shapes[0]:
        return by_primitive(equation)
    return noted(equation, call("jax.random.bits", equation.exact(0), **options), "random bits")


def random_split(equation: Equation) -> Result:
    """Several keys from one."""
    shape = tuple(equation.params["shape"])
    code = call("jax.random.split", equation.exact(0), integers(shape))
    return by_primitive(equation) if equation.shapes[0] else noted(equation, code, "random keys")


def random_fold_in(equation: Equation) -> Result:
    """A key that depends on a number."""
    if equation.shapes[0]:
        return by_primitive(equation)
    code = call("jax.random.fold_in", *equation.all_exact())
    return noted(equation, code, "random keys")


def by_primitive(equation: Equation) -> Result:
    """The primitive itself, by JAX's public list of them, if its parameters can be written.

    Raises:
        SourceError: JAX does not list the primitive, or a parameter cannot be written as code.
    """
    name = equation.name.replace("-", "_")
    if not hasattr(public, f"{name}_p"):
        raise SourceError(
            f"the primitive {equation.name!r} cannot be written: NumPy, SciPy and the public "
            "functions of JAX do not compute it; leave it out of the function"
        )
    options = {key: _parameter(equation.name, key, value) for key, value in equation.params.items()}
    code: Expression = Call(
        f"primitives.{name}_p.bind", tuple(equation.all_exact()), tuple(options.items())
    )
    if not equation.primitive.multiple_results:
        return noted(equation, code, equation.name)
    whole = equation.builder.value(code, (), OBJECT, name)
    if equation.module == "np" and not whole.comment:
        whole.comment.append(f"NumPy has no {equation.name}: JAX computes it.")
    parts = parts_of(equation, whole)
    if equation.module == "jnp":
        return parts
    return [
        None
        if part is None
        else equation.builder.value(call("np.asarray", part.ref), part.shape, part.dtype)
        for part in parts
    ]


def _parameter(primitive: str, key: str, value: Any) -> Expression:
    """A parameter of a primitive as code.

    Raises:
        SourceError: it is neither a number, a text nor a tuple of them.
    """
    kind: str = type(value).__name__
    if kind in ("NoneType", "bool", "int", "float"):
        return Text(repr(value))
    if kind == "str":
        return Text(f'"{value}"')
    if hasattr(value, "kind") and hasattr(value, "itemsize"):
        return Text(f"jnp.{value.name}")
    if hasattr(value, "__index__"):
        return number(int(value))
    if kind == "tuple" and all(hasattr(x, "__index__") for x in value):
        return integers(value)
    raise SourceError(
        f"the primitive {primitive!r} cannot be written: its parameter {key}={value!r} has no "
        "form as code; leave it out of the function"
    )


FALLBACK: dict[str, Translation] = {
    "igamma_grad_a": _function("lax.igamma_grad_a"),
    "random_gamma_grad": _function("lax.random_gamma_grad"),
    "mulhi": _function("lax.mulhi"),
    "reduce_precision": reduce_precision,
    "random_seed": random_seed,
    "random_wrap": random_wrap,
    "random_unwrap": random_unwrap,
    "random_bits": random_bits,
    "random_split": random_split,
    "random_fold_in": random_fold_in,
    **dict.fromkeys(
        [
            "random_gamma",
            "threefry2x32",
            "householder_product",
            "schur",
            "hessenberg",
            "tridiagonal",
            "eq_to",
            "le_to",
            "lt_to",
        ],
        by_primitive,
    ),
}
"""Translations by primitive."""
