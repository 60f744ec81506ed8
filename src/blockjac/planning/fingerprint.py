"""What a plan was made for, as a short text that is the same in every process."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from typing import Any

from blockjac.graph.graph import Graph, Operand

ADDRESS = re.compile(r" at 0x[0-9a-f]+|\bid=\d+")
"""What the text of an object may hold that differs between processes."""


def fingerprint(graph: Graph) -> str:
    """A hash of all that an order of elimination depends on: equations, shapes, dtypes, constants.

    Args:
        graph: the traced function.

    Returns:
        Sixteen hexadecimal digits.
    """
    digest = hashlib.sha256()
    for part in _parts(graph):
        digest.update(part.encode())
        digest.update(b"\n")
    return digest.hexdigest()[:16]


def _parts(graph: Graph) -> Iterator[str]:
    """The texts that a fingerprint is made of: values, equations, parameters and results."""
    yield from (_type(aval) for aval in graph.avals)
    yield str((graph.inputs, graph.constants, graph.independents))
    for equation in graph.equations:
        yield equation.primitive.name
        yield from map(_operand, equation.operands)
        yield str(equation.results)
        for name, value in sorted(equation.params.items()):
            yield f"{name}={ADDRESS.sub('', str(value))}"
    yield from map(_operand, graph.outputs)


def _operand(operand: Any) -> str:
    if isinstance(operand, Operand):
        return f"{operand.value}/{operand.vertex}"
    return f"{operand.value!r}:{_type(operand.aval)}"


def _type(aval: Any) -> str:
    return f"{getattr(aval, 'dtype', '')}{getattr(aval, 'shape', '')}"
