"""Names of the module's variables: those of the user where they can be, else what they hold."""

from __future__ import annotations

import builtins
import keyword
import re
from collections.abc import Generator
from contextlib import contextmanager

from blockjac.explanations.source.expressions import (
    FULL,
    NEW_AXIS,
    Attribute,
    Binary,
    Call,
    Display,
    Expression,
    Ref,
    Subscript,
    Text,
    Unary,
)
from blockjac.explanations.source.writer import Writer

RESERVED = frozenset(
    {"np", "jnp", "jax", "lax", "special", "linalg", "fft", "primitives", "namedtuple"}
    | set(keyword.kwlist)
    | set(keyword.softkwlist)
    | set(dir(builtins))
)

"""Names that the module's own code needs, and that Python does."""

_OPERATORS = {
    "+": "total",
    "-": "difference",
    "*": "product",
    "/": "ratio",
    "@": "dot",
    "**": "power",
    "==": "mask",
    "!=": "mask",
    "<": "mask",
    "<=": "mask",
    ">": "mask",
    ">=": "mask",
    "&": "mask",
    "|": "mask",
    "^": "mask",
}

_FUNCTIONS = {
    "where": "chosen",
    "einsum": "contracted",
    "broadcast_to": "repeated",
    "astype": "converted",
    "expit": "sigmoid",
    "arange": "numbers",
    "concatenate": "joined",
    "stack": "stacked",
    "sum": "total",
    "max": "largest",
    "min": "smallest",
    "maximum": "larger",
    "minimum": "smaller",
    "abs": "size",
    "prod": "product",
    "all": "all_true",
    "any": "any_true",
    "pad": "padded",
    "reshape": "reshaped",
    "transpose": "transposed",
    "zeros": "zeros",
    "round": "rounded",
    "astuple": "parts",
    "flip": "flipped",
    "sort": "ordered",
    "clip": "clipped",
    "array": "constant",
    "eye": "identity",
}

_TYPES = {"float64", "float32", "int64", "int32", "bool_", "complex128", "complex64"}
"""Calls that give a number a dtype."""

_PREFIXES = {"sum", "exp", "log", "tanh", "sqrt", "sin", "cos", "expit", "max", "min", "abs"}
"""Functions whose name joins that of their operand: `exp_u`."""


def mended(name: str) -> str:
    """The nearest identifier that is not reserved.

    Examples:
        >>> mended("x^2"), mended("lambda"), mended("2x"), mended("φ₁"), mended("np")
        ('x_2', 'lambda_', 'x_2x', 'φ_', 'np_')
    """
    name = re.sub(r"\W+", "_", name) if not name.isidentifier() else name
    name = "".join(c if f"a{c}".isidentifier() else "_" for c in name)
    if not name.strip("_"):
        name = "x"
    if not name.isidentifier():
        name = f"x_{name}"
    return f"{name}_" if name in RESERVED else name


class Names:
    """Gives every variable of a function a name of its own.

    Attributes:
        taken: the names that are in use.
    """

    def __init__(self, taken: set[str]) -> None:
        self.taken = set(taken)

    @contextmanager
    def scope(self) -> Generator[None]:
        """Names given within the context are free again after it."""
        before = set(self.taken)
        yield
        self.taken = before

    def release(self, name: str) -> None:
        """A name is free again."""
        self.taken.discard(name)

    def unique(self, wanted: str) -> str:
        """The wanted name, mended and numbered if it is taken."""
        base = name = mended(wanted)
        count = 1
        while name in self.taken:
            count += 1
            name = f"{base}_{count}"
        self.taken.add(name)
        return name


def hint(writer: Writer, code: Expression) -> str:
    """A name that says what an expression computes."""
    code = writer.resolved(code)
    match code:
        case Binary():
            return _OPERATORS.get(code.operator, "mask")
        case Unary():
            return "mask" if code.operator == "~" else _after("minus", writer, code.of, "negative")
        case Call():
            name = _function_name(code)
            if name in _PREFIXES and code.arguments:
                joined = _FUNCTIONS.get(name, name)
                return _after(
                    "sigmoid" if name == "expit" else name, writer, code.arguments[0], joined
                )
            if name in ("reshape", "astype"):
                inner = code.function.of if isinstance(code.function, Attribute) else code
                return hint(writer, inner) if not _named(writer, inner) else _FUNCTIONS[name]
            return _FUNCTIONS.get(name, name.strip("_") if name not in _TYPES else "number")
        case Attribute():
            return (
                _after("transposed", writer, code.of, "transposed")
                if code.name == "T"
                else (code.name)
            )
        case Subscript():
            if all(item is FULL or item is NEW_AXIS for item in code.items):
                return hint(writer, code.of)
            return _after("part", writer, code.of, "part")
        case Display():
            return "parts"
        case Ref():
            return writer.name_of(code.value)
        case Text():
            return "number"
        case _:
            return "value"


def _function_name(code: Call) -> str:
    """The last part of a called function's name."""
    if isinstance(code.function, str):
        return code.function.rsplit(".", 1)[-1]
    return code.function.name if isinstance(code.function, Attribute) else "result"


def _named(writer: Writer, operand: Expression) -> str:
    """The name of an operand; empty if it is an expression."""
    operand = writer.resolved(operand)
    return writer.name_of(operand.value) if isinstance(operand, Ref) else ""


def _after(prefix: str, writer: Writer, operand: Expression, otherwise: str) -> str:
    """`prefix_x` for an operand that has a short name."""
    name = _named(writer, operand)
    return f"{prefix}_{name}" if name and len(name) <= 3 else otherwise
