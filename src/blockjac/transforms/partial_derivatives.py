"""Chosen partial derivatives by named coordinates, as the residuals of differential equations take.

Directions are pushed forwards at all points of a batch at once, which is right where no point moves
another: that is proved from the program.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax

from blockjac.base.trees import flattened
from blockjac.engine.arguments import check_callable
from blockjac.engine.call import Call
from blockjac.errors import ArgumentError, BlockShapeError, ExamplesMeetError
from blockjac.graph.example_meetings import meeting_of
from blockjac.planning import Order
from blockjac.second_order.chosen import Coordinate, PartialDerivatives
from blockjac.second_order.multi_indices import MultiIndex
from blockjac.transforms.coordinates import Coordinates, Names, Place
from blockjac.transforms.shell import Ask, Asked, P, Transform


def partial_derivatives(
    fun: Callable[P, Any],
    derivatives: Any,
    has_aux: bool = False,
    *,
    coordinates: Coordinates | None = None,
) -> Callable[P, Any]:
    """Chosen partial derivatives of a function, of any order and mixed, in one exact pass.

    A derivative is written by its coordinates: `"xxy"` for `u_xxy`, `""` for `u` itself. What is
    not asked for is not computed, but for the derivatives below: `u_xx` takes `u_x`.

    Args:
        fun: any JAX function, such as `u(params, x, t)`. A coordinate is a parameter of the
            function, a number or an array of many points; or an entry of the last axis of an array,
            one point or many. Of many points each entry of the result is differentiated by the
            coordinates of its own point.
        derivatives: one derivative, or dicts and lists of them, as in `{"u_t": "t", "u_xx": "xx"}`.
            A derivative is a string of coordinates of one letter each, or one name, or a tuple of
            names and of pairs `(argument, entry)`.
        has_aux: whether `fun` returns `(value, aux)`.
        coordinates: further names: `{"x": (1, 0), "t": (1, 1)}` are entries 0 and 1 on the last
            axis of argument 1, `{"x": 1}` is argument 1; arguments by number or by name.

    Returns:
        A function of the same arguments that gives `derivatives` with, in place of each, what `fun`
        gives, in tree, shapes and dtypes. With `has_aux`, `(answer, aux)`.

    Raises:
        ValueError: for a coordinate that does not exist; and where a result depends on several
            points of a batch, with the line.
        TypeError: for integer and complex coordinates and for integer results.

    Examples:
        >>> import jax.numpy as jnp
        >>> import blockjac
        >>> u = lambda x, t: jnp.sin(x) * t**2
        >>> at = blockjac.partial_derivatives(u, {"u": "", "u_t": "t", "u_xxt": "xxt"})
        >>> {name: round(float(value), 3) for name, value in at(0.5, 3.0).items()}
        {'u': 4.315, 'u_t': 2.877, 'u_xxt': -2.877}

        Of many points in rows, by entries of the row:

        >>> v = lambda points: jnp.prod(points, axis=-1) ** 2
        >>> named = {"x": (0, 0), "y": (0, 1)}
        >>> v_xxy = blockjac.partial_derivatives(v, "xxy", coordinates=named)
        >>> v_xxy(jnp.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]))
        Array([ 8., 16., 24.], dtype=float32)
    """
    check_callable(fun, "partial_derivatives")
    written, tree = flattened(derivatives, is_leaf=lambda node: isinstance(node, str | tuple))
    _check_written(derivatives, written)
    names = Names.of(fun, coordinates)
    asked = [names.derivative(leaf) for leaf in written]
    places = tuple(dict.fromkeys(place for derivative in asked for place in derivative))
    if not places:
        raise ArgumentError(
            f"derivatives is {derivatives!r}, which asks for no derivative: name at least one "
            "coordinate, as in 'x'"
        )
    arguments = tuple(sorted({place.argument for place in places}))
    indices = tuple(tuple(map(derivative.count, places)) for derivative in asked)
    transform = Transform(
        "partial_derivatives", "Partial derivatives", fun, arguments, has_aux, "auto", second=True
    )
    return transform(_asking(Question(places, arguments, indices, tree)))


def _asking(question: Question) -> Ask:
    """Asks a question."""

    def ask(call: Call, order: Order) -> Asked:
        del order
        return question.asked(call)

    return ask


@dataclass(frozen=True)
class Question:
    """Which derivatives of a traced function are asked for.

    Attributes:
        places: the coordinates.
        arguments: the positions of the arguments that hold them.
        indices: the derivatives.
        tree: that they were written in.
    """

    places: tuple[Place, ...]
    arguments: tuple[int, ...]
    indices: tuple[MultiIndex, ...]
    tree: Any

    def asked(self, call: Call) -> Asked:
        """The computation, and what puts its answer into the tree."""
        call.check_real(complex_results=True)
        numbers = self._inputs(call)
        coordinates = tuple(
            Coordinate(numbers[place.argument], _entry(place, call.inputs[numbers[place.argument]]))
            for place in self.places
        )
        _check_apart(call, coordinates, [place.name for place in self.places])
        computation = PartialDerivatives(call.count, call.smooth, coordinates, self.indices)
        return computation, partial(self._put, call)

    def _inputs(self, call: Call) -> dict[int, int]:
        """By argument, which of the differentiated inputs it is."""
        subtrees = call.wrt_tree.children()
        for argument, subtree in zip(self.arguments, subtrees, strict=True):
            if subtree != jax.tree.structure(0):
                name = next(place.name for place in self.places if place.argument == argument)
                raise ArgumentError(
                    f"the coordinate {name!r} of {call.graph_name!r} must be an array or a number, "
                    f"but argument {argument} is a tree, {subtree}; make its leaf an argument"
                )
        return {argument: number for number, argument in enumerate(self.arguments)}

    def _put(self, call: Call, answer: Sequence[Any]) -> Any:
        """The derivatives in the tree that they were asked for in, each like the result."""
        return jax.tree.unflatten(self.tree, [call.value(results) for results in answer])


def _check_written(derivatives: Any, written: Sequence[Any]) -> None:
    """Raise unless all derivatives are strings or tuples."""
    for leaf in written:
        if not isinstance(leaf, str | tuple):
            raise ArgumentError(
                f"derivatives is {derivatives!r}, in which {leaf!r} is neither a string of "
                "coordinates, as in 'xx', nor a tuple of them, as in ('x', 'x')"
            )


def _entry(place: Place, aval: Any) -> int | None:
    """The entry on the last axis, counted from the first."""
    if place.entry is None:
        return None
    size = aval.shape[-1] if aval.shape else 0
    if not -size <= place.entry < size:
        raise ArgumentError(
            f"the coordinate {place.name!r} is entry {place.entry} on the last axis of argument "
            f"{place.argument}, which has shape {tuple(aval.shape)}"
        )
    return place.entry % size


def _check_apart(call: Call, coordinates: Sequence[Coordinate], names: Sequence[str]) -> None:
    """Raise unless no entry of a result depends on more than one point.

    Raises:
        BlockShapeError: if coordinates have points in different shapes.
        ExamplesMeetError: says where points meet, and what to do.
    """
    shapes = {
        name: tuple(call.inputs[own.input].shape)[: None if own.entry is None else -1]
        for name, own in zip(names, coordinates, strict=True)
    }
    batches = {shape for shape in shapes.values() if shape}
    if len(batches) > 1:
        raise BlockShapeError(
            "partial_derivatives needs coordinates that are numbers or have points in one shape, "
            f"but found {shapes}; broadcast them before the call"
        )
    for axis, size in enumerate(next(iter(batches), ())):
        points = {
            call.wrt[own.input]: axis
            for name, own in zip(names, coordinates, strict=True)
            if shapes[name]
        }
        for number in range(call.count):
            meeting = meeting_of(call.graph, points, size, axis, number)
            if meeting is not None:
                raise ExamplesMeetError(
                    f"partial_derivatives takes coordinates of shape {next(iter(batches))} for as "
                    f"many points, of which each entry of a result may depend on its own alone, on "
                    f"the same axes; but in {call.graph_name!r} points meet, as far as blockjac "
                    f"knows, in {meeting.name!r}{meeting.place}. Write the function of one point "
                    "and jax.vmap the derivatives; or, if the last axis counts the coordinates of "
                    "a point, name them by coordinates={'x': (argument, 0), ...}"
                )
