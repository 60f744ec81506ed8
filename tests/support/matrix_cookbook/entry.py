"""What an entry of the Matrix Cookbook's table consists of."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Entry:
    """A derivative of the Matrix Cookbook (Petersen and Pedersen, 2012).

    Attributes:
        section: of the book.
        name: the function, in the book's notation.
        function: the same in JAX; differentiated by its first argument.
        arguments: their sizes and kinds: "34" is a matrix of 3 rows and 4 columns, "33s" a
            symmetric one, "33p" a positive definite one, "33i" one far from singular, "3" a vector,
            "12v" a long one, "-" a number.
        book: the book's derivative in NumPy, output axes first.
    """

    section: str
    name: str
    function: object
    arguments: str
    book: object

    def draw(self, seed):
        """Random arguments."""
        rng = np.random.default_rng(seed)
        return [drawn(rng, kind) for kind in self.arguments.split()]


def drawn(rng, kind):
    """A random array of a kind."""
    letter = kind[-1] if kind[-1].isalpha() else ""
    digits = kind.removesuffix(letter).replace("-", "")
    if letter == "v":
        return rng.normal(size=int(digits))
    shape = tuple(map(int, digits))
    array = rng.normal(size=shape)
    match letter:
        case "s":
            return array + array.T
        case "p":
            return array @ array.T + np.eye(len(array))
        case "i":
            return array + 4 * np.eye(len(array))
        case "":
            return array
    raise ValueError(kind)


def single_entries(rows, columns):
    """J[k, l, i, j]: a matrix by itself, which is the book's single-entry matrices J^ij."""
    return np.einsum("ki,lj->klij", np.eye(rows), np.eye(columns))


inverse = np.linalg.inv
det = np.linalg.det
eye = np.eye
power = np.linalg.matrix_power
