"""How users name partial derivatives: by the parameters of their function, as in `"xxy"`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from blockjac.engine.arguments import parameter_names
from blockjac.errors import ArgumentError

Coordinates = Mapping[str, Any]
"""Names of coordinates: each an argument, by number or name, or an argument with an entry of its
last axis."""


@dataclass(frozen=True)
class Place:
    """Where a coordinate is.

    Attributes:
        argument: the position of the argument.
        entry: which entry on the argument's last axis; None if the argument is the coordinate.
        name: for messages.
    """

    argument: int
    entry: int | None
    name: str


@dataclass(frozen=True)
class Names:
    """The names that derivatives may be written with.

    Attributes:
        function: the name of the function.
        parameters: of the function.
        own: the coordinates that were named.
    """

    function: str
    parameters: tuple[str, ...]
    own: Mapping[str, Place]

    @staticmethod
    def of(fun: Callable[..., Any], coordinates: Any) -> Names:
        """The parameters of a function, and further coordinates.

        Raises:
            ArgumentError: for a coordinate that is none.
        """
        parameters = tuple(parameter_names(fun, 0))
        names = Names(getattr(fun, "__name__", type(fun).__name__), parameters, {})
        named: Any = {} if coordinates is None else coordinates
        if not isinstance(named, Mapping):
            raise ArgumentError(
                f"coordinates is {coordinates!r}, but must map names to arguments, as in "
                "{'x': (1, 0), 't': (1, 1)} for entries 0 and 1 of argument 1"
            )
        places = cast("Coordinates", named)
        own = {name: names.place(value, str(name)) for name, value in places.items()}
        return Names(names.function, parameters, own)

    def derivative(self, written: Any) -> tuple[Place, ...]:
        """The coordinates of a derivative, one for each time that it is differentiated.

        Raises:
            ArgumentError: says which names there are.
        """
        if not isinstance(written, str):
            return tuple(self.place(part) for part in written)
        if self._is_known(written):
            return (self.place(written),)
        unknown = [letter for letter in written if not self._is_known(letter)]
        if unknown:
            raise ArgumentError(
                f"the derivative {written!r} of {self.function!r} is neither a coordinate nor made "
                f"of coordinates of one letter: {unknown[0]!r} is none of {self._known()}; write "
                "the coordinates alone, as 'xx' in {'u_xx': 'xx'}, longer names in a tuple, as in "
                "('time', 'time'), and name entries of arrays by coordinates="
            )
        return tuple(self.place(letter) for letter in written)

    def place(self, coordinate: Any, name: str = "") -> Place:
        """One coordinate.

        Raises:
            ArgumentError: says what would be one.
        """
        if isinstance(coordinate, str) and coordinate in self.own:
            return self.own[coordinate]
        argument: Any = coordinate
        entry: Any = None
        if isinstance(coordinate, tuple) and len(cast("tuple[Any, ...]", coordinate)) == 2:
            argument, entry = cast("tuple[Any, Any]", coordinate)
        is_number = type(argument) is int and (name or entry is not None)
        fits = argument in self.parameters if isinstance(argument, str) else is_number
        if not fits or type(entry) not in (int, type(None)):
            raise ArgumentError(
                f"{coordinate!r} is no coordinate of {self.function!r}: give the name of a "
                f"parameter or coordinate, {self._known()}, or a pair (argument, entry) for an "
                "entry of an array's last axis, the argument by name or number"
            )
        position = self.parameters.index(argument) if isinstance(argument, str) else argument
        return Place(position, entry, name or str(cast("object", coordinate)))

    def _is_known(self, name: str) -> bool:
        return name in self.own or name in self.parameters

    def _known(self) -> str:
        """All names, for messages."""
        return ", ".join(map(repr, _once([*self.own, *self.parameters]))) or "(no names)"


def _once(names: Iterable[str]) -> list[str]:
    return [*dict.fromkeys(names)]
