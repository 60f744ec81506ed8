"""The places of a sparse derivative once, and then only its values, in the order asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from blockjac.base.compat import is_traced
from blockjac.base.trees import mapped, tree_structure
from blockjac.engine.arguments import ArgNums
from blockjac.errors import ArgumentError, BlockTypeError, FormatError, InvalidOptionError
from blockjac.exports.each_place_once import each_place_once
from blockjac.exports.ordered_values import numpy_values
from blockjac.sparsity.pattern import Pattern, arrangement
from blockjac.sparsity.scipy_formats import assembled, check_banded
from blockjac.transforms.sparse import entries_of_jacobian, parts_of
from blockjac.transforms.sparse_hessian import Triangle, check_triangle, entries_of_hessian
from blockjac.transforms.traced_once import Orders

Format = Literal["coo", "csr", "csc", "dia", "band"]
"""The orders of the values."""

Derivative = Literal["jacobian", "hessian"]


@dataclass(frozen=True, eq=False)
class SparseStructure:
    """The places of a sparse derivative, known from shapes alone, and a program for its values.

    Attributes:
        shape: the numbers of rows and columns.
        rows: the row of each value, `(nnz,)`, in the order of `values`.
        columns: the column of each value, likewise. Every place occurs once.

    Examples:
        >>> import jax.numpy as jnp
        >>> from blockjac import interop
        >>> def springs(x):
        ...     return (x[1:] - x[:-1]) ** 2
        >>> places = interop.structure(springs)(jnp.zeros(4))
        >>> places.shape, places.nnz, places.rows.tolist(), places.columns.tolist()
        ((3, 4), 6, [0, 1, 2, 0, 1, 2], [0, 1, 2, 1, 2, 3])
        >>> x = jnp.array([0.0, 1.0, 3.0, 6.0])
        >>> places.values(x).tolist()
        [-2.0, -4.0, -6.0, 2.0, 4.0, 6.0]
        >>> places.values(x, format="csr").tolist()
        [-2.0, 2.0, -4.0, 4.0, -6.0, 6.0]
    """

    shape: tuple[int, int]
    rows: np.ndarray
    columns: np.ndarray
    _program: Callable[..., Any] = field(repr=False)
    _takes: dict[str, np.ndarray] = field(repr=False, default_factory=dict[str, np.ndarray])

    @property
    def nnz(self) -> int:
        """The number of places."""
        return len(self.rows)

    def values(self, *args: Any, format: Format = "coo", **kwargs: Any) -> Any:
        """The values at a point, in the order of a format.

        Args:
            args: the arguments of the function, of the shapes that the structure was made for.
            format: "coo" for the order of `rows` and `columns`; "csr" and "csc" for that of
                `indices(format)`, sorted by rows or by columns; "dia" for the array `data` of
                `scipy.sparse.dia_array`, one row for each offset of `indices("dia")`; "band" for
                the array `ab` of `scipy.linalg.solve_banded`, whose widths are `indices("band")`.
            kwargs: keyword arguments of the function.

        Returns:
            A NumPy array; under `jax.jit` one of JAX. Values that are not finite are passed on:
            clients have their own way with them.

        Raises:
            TypeError: for arguments of other shapes or dtypes than the structure was made for.
            ValueError: for a format that does not exist, and for "dia" and "band" where these hold
                far more numbers than there are entries.
        """
        if any(isinstance(arg, str) for arg in args):
            raise FormatError(
                f"values takes the arguments of the function, but got {args!r}; the format is "
                "given by its name: values(x, format='csc')"
            )
        take = self._take(format)
        numbers = self._program(*args, **kwargs)
        if is_traced(numbers):
            return numbers if take is None else _taken(jnp, numbers, take)
        host = numpy_values(numbers)
        return host if take is None else _taken(np, host, take)

    def indices(self, format: Format) -> tuple[Any, Any] | np.ndarray:
        """Where the values of a format stand.

        Args:
            format: as in `values`.

        Returns:
            `(rows, columns)` for "coo"; `(indices, indptr)` as in SciPy for "csr" and "csc"; the
            offsets of the diagonals for "dia"; for "band" the numbers of diagonals below and above
            the main one.
        """
        _check_format(format)
        if format == "coo":
            return self.rows, self.columns
        if format == "band":
            return self._bandwidth
        matrix = self._numbered(format)
        return matrix.offsets if format == "dia" else (matrix.indices, matrix.indptr)

    # How the order of a format comes from that of the program

    def _take(self, format: Format) -> np.ndarray | None:
        """For each number of a format which value it is, -1 for none; None for the same order."""
        _check_format(format)
        if format == "coo":
            return None
        if format not in self._takes:
            self._takes[format] = self._banded() if format == "band" else self._sorted(format)
        return self._takes[format]

    def _sorted(self, format: str) -> np.ndarray:
        """The values of a sparse array of SciPy."""
        return self._numbered(format).data - 1

    def _numbered(self, format: str) -> Any:
        """The sparse array of SciPy that holds 1 plus the number of each value."""
        pattern = Pattern(self.rows, self.columns, self.shape)
        matrix = assembled(pattern, np.arange(1, self.nnz + 1), format)
        if format != "dia":
            matrix.has_sorted_indices = matrix.has_canonical_format = False
            matrix.sort_indices()
        return matrix

    @property
    def _bandwidth(self) -> tuple[int, int]:
        distance = self.rows - self.columns
        return int(distance.max(initial=0)), int(-distance.min(initial=0))

    def _banded(self) -> np.ndarray:
        """The values of the array `ab` of LAPACK: `ab[upper + i - j, j] = A[i, j]`."""
        lower, upper = self._bandwidth
        check_banded(Pattern(self.rows, self.columns, self.shape), lower + upper + 1, "band")
        take = np.full((lower + upper + 1, self.shape[1]), -1)
        take[upper + self.rows - self.columns, self.columns] = np.arange(self.nnz)
        return take


def structure(
    fun: Callable[..., Any],
    argnums: ArgNums = 0,
    *,
    derivative: Derivative = "jacobian",
    triangle: Triangle | None = None,
    order: Orders = "auto",
) -> Callable[..., SparseStructure]:
    """The places of a Jacobian or Hessian, for clients that are given them once.

    Such a client (`declare_partials(rows=, cols=)` of OpenMDAO, `setValuesCSR` of PETSc, the
    callbacks of SUNDIALS and of IPOPT) later asks for the values alone, in a fixed order. They come
    from one compiled program.

    Args:
        fun: a JAX function of real arrays and trees of them.
        argnums: which positional arguments to differentiate by.
        derivative: "jacobian"; or "hessian" of a function with one number as its result.
        triangle: of a Hessian, "lower" or "upper" for one triangle and the diagonal.
        order: of elimination, as in `blockjac.jacobian`.

    Returns:
        A function of the arguments of `fun`, of which the shapes suffice
        (`jax.ShapeDtypeStruct`), that gives a `SparseStructure`.

    Raises:
        TypeError: where places depend on values that only the running program knows, as those of a
            sort do; and as `blockjac.sparse_jacobian`.
        ValueError: for options that do not exist.

    Examples:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from blockjac import interop
        >>> def energy(x):
        ...     return jnp.sum((x[1:] - x[:-1]) ** 4)
        >>> shape = jax.ShapeDtypeStruct((3,), jnp.float32)
        >>> lower = interop.structure(energy, derivative="hessian", triangle="lower")(shape)
        >>> sorted(zip(lower.rows.tolist(), lower.columns.tolist()))
        [(0, 0), (1, 0), (1, 1), (2, 1), (2, 2)]
    """
    if derivative not in get_args(Derivative):
        raise InvalidOptionError(
            f"derivative must be 'jacobian' or 'hessian', but is {derivative!r}"
        )
    check_triangle(triangle)
    if derivative == "hessian":
        entries = entries_of_hessian(fun, argnums, triangle, order)
    elif triangle is None:
        entries = entries_of_jacobian(fun, argnums, order)
    else:
        raise ArgumentError(
            f"triangle={triangle!r} is for derivative='hessian': a Jacobian is not symmetric"
        )

    def structured(*args: Any, **kwargs: Any) -> SparseStructure:
        """The structure at the shapes of the arguments."""
        return _structure(jax.jit(entries), triangle, args, kwargs)

    return structured


def _structure(
    entries: Any, triangle: Triangle | None, args: Sequence[Any], kwargs: dict[str, Any]
) -> SparseStructure:
    """The places, from shapes, and the program for the values.

    Args:
        entries: a jitted function for the entries.
        triangle: which to keep.
        args: of the user's function.
        kwargs: keyword arguments.
    """
    abstract = mapped(shape_of_leaf, (tuple(args), kwargs))
    _, lookups, layouts = entries.eval_shape(*abstract[0], **abstract[1])
    if jax.tree.leaves(lookups):
        raise BlockTypeError(
            "the places of this derivative depend on values that only the running program knows, "
            "such as those of a sort, or of an array of indices among the arguments; a client that "
            "is told the places once cannot follow them. Close over arrays of indices instead of "
            "passing them, or use blockjac.sparse_jacobian, which finds the places at each call"
        )
    grid = [[layout.block(arrays) for layout, arrays in row] for row in parts_of(lookups, layouts)]
    once = each_place_once(arrangement(grid).triangle(triangle))

    @jax.jit
    def program(*args: Any, **kwargs: Any) -> Any:
        """The values, in the order of the places."""
        args, kwargs = _as_made_for((args, kwargs), abstract)
        return once.values(entries(*args, **kwargs)[0])

    pattern = once.pattern
    return SparseStructure(pattern.shape, pattern.rows, pattern.columns, program)


def _as_made_for(arguments: Any, example: Any) -> Any:
    """Arguments in the dtypes of those that a structure was made for: a float of an integer.

    Raises:
        ArgumentError: if they have other shapes, or would lose digits.
    """
    found = mapped(shape_of_leaf, arguments)
    tree, leaves = tree_structure(example), jax.tree.leaves(example)
    is_alike = tree_structure(found) == tree
    if not is_alike or not all(map(fits, jax.tree.leaves(found), leaves)):
        raise ArgumentError(
            f"the structure was made for arguments of {example}, but got {found}: the places "
            "belong to these shapes; make another structure for others"
        )
    return jax.tree.map(promoted, arguments, example)


def fits(found: jax.ShapeDtypeStruct, like: jax.ShapeDtypeStruct) -> bool:
    """Whether an array can stand for another: the same shape, and no digits are lost."""
    is_alike = found.dtype == like.dtype or jnp.promote_types(found.dtype, like.dtype) == like.dtype
    return found.shape == like.shape and is_alike


def promoted(leaf: Any, like: jax.ShapeDtypeStruct) -> Any:
    """An array that fits, in the dtype of what it stands for."""
    is_same = jax.dtypes.result_type(leaf) == like.dtype
    return leaf if is_same else jnp.asarray(leaf, like.dtype)


def shape_of_leaf(leaf: Any) -> Any:
    """The shape and dtype of an argument."""
    return jax.ShapeDtypeStruct(jnp.shape(leaf), jax.dtypes.result_type(leaf))


def _taken(xp: Any, numbers: Any, take: np.ndarray) -> Any:
    """The values of a format; 0 where it has a place and the derivative none."""
    if not len(numbers):
        return xp.zeros(take.shape, numbers.dtype)
    return xp.where(take < 0, 0, xp.take(numbers, xp.maximum(take, 0)))


def _check_format(format: Any) -> None:
    """Raise unless a format is one of those that exist."""
    if format not in get_args(Format):
        names = ", ".join(map(repr, get_args(Format)))
        raise FormatError(f"format must be one of {names}, but is {format!r}")
