"""How derivatives are written, and what is said of those that cannot be read."""

import re

import pytest

from blockjac.errors import ArgumentError
from blockjac.transforms.coordinates import Names, Place


def u(params, x, time):
    return params * x * time


class Model:
    def __call__(self, point, t):
        return point[0] * t


NAMED = {"y": (1, 0), "z": ("time", -1), "p": 0, "q": "x"}
X, TIME = Place(1, None, "x"), Place(2, None, "time")
Y, Z = Place(1, 0, "y"), Place(2, -1, "z")


@pytest.mark.parametrize(
    ("fun", "named", "written", "wanted"),
    [
        (u, None, "x", (X,)),
        (u, None, "xx", (X, X)),
        (u, None, "", ()),
        (u, None, "time", (TIME,)),
        (u, None, ("x", "time", "x"), (X, TIME, X)),
        (u, NAMED, "yzy", (Y, Z, Y)),
        (u, NAMED, ("y", "time"), (Y, TIME)),
        (u, NAMED, "p", (Place(0, None, "p"),)),
        (u, NAMED, "qq", (Place(1, None, "q"),) * 2),
        (u, None, (("x", 2), (2, 0)), (Place(1, 2, "('x', 2)"), Place(2, 0, "(2, 0)"))),
        (u, {"x": (2, 1)}, "x", (Place(2, 1, "x"),)),
        (Model(), None, "tt", (Place(1, None, "t"),) * 2),
        (Model(), None, (("point", 0), "t"), (Place(0, 0, "('point', 0)"), Place(1, None, "t"))),
    ],
)
def test_derivatives(fun, named, written, wanted):
    assert Names.of(fun, named).derivative(written) == wanted


@pytest.mark.parametrize(
    ("fun", "named", "written", "message"),
    [
        (u, None, "u_xx", "'u_xx' of 'u' is neither a coordinate nor made .* 'u' is none of 'para"),
        (u, None, "xtime", "'t' is none of 'params', 'x', 'time'; write the coordinates alone"),
        (u, NAMED, "yw", "'w' is none of 'y', 'z', 'p', 'q', 'params', 'x', 'time'"),
        (max, None, "x", r"'x' is none of \(no names\)"),
        (u, None, ("x", 0), "0 is no coordinate of 'u': give the name of a parameter"),
        (u, None, ("w",), "'w' is no coordinate of 'u'"),
        (u, None, (("w", 0),), r"\('w', 0\) is no coordinate of 'u'.*a pair \(argument, entry\)"),
        (u, None, (("x", 0.5),), r"\('x', 0.5\) is no coordinate"),
        (u, {"y": (True, 0)}, "y", r"\(True, 0\) is no coordinate"),
        (u, {"y": "w"}, "y", "'w' is no coordinate of 'u'"),
        (u, ["x"], "y", r"coordinates is \['x'\], but must map names to arguments"),
    ],
)
def test_what_cannot_be_read(fun, named, written, message):
    with pytest.raises(ArgumentError, match=re.compile(message, re.DOTALL)):
        Names.of(fun, named).derivative(written)
