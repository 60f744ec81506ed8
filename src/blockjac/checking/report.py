"""What a check found, as data and as text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from blockjac.errors import WrongJacobianError

SHOWN = 5
"""How many differing entries a report keeps."""


@dataclass(frozen=True)
class Mistake:
    """What is wrong, by name.

    Attributes:
        name: a few words, such as `transposed`.
        hint: one line: what was given in place of what, and how to mend it.
        factor: the number by which something was multiplied, if that is the mistake.
        rank: the smaller, the likelier, where several mistakes would give the same.
    """

    name: str
    hint: str
    factor: float | None = field(default=None, compare=False)
    rank: int = field(default=15, compare=False)


@dataclass(frozen=True)
class Difference:
    """One entry that differs.

    Attributes:
        leaf: of which derivative, such as `D_W loss`.
        output: index of the output's entry, `()` for a scalar.
        input: index of the input's entry.
        given: the value that was given.
        exact: the value that is right.
    """

    leaf: str
    output: tuple[int, ...]
    input: tuple[int, ...]
    given: Any
    exact: Any

    def __str__(self) -> str:
        brackets = "".join(
            f"[{', '.join(map(str, index))}]" for index in (self.output, self.input) if index
        )
        return f"J{brackets}: given {_number(self.given)}, exact {_number(self.exact)}"


@dataclass(frozen=True)
class LeafReport:
    """The comparison of one output with respect to one variable.

    Attributes:
        leaf: of which derivative, such as `D_W loss`.
        out_shape: shape of the output.
        wrt_shape: shape of the variable.
        given_shape: shape of what was given.
        differences: the first entries that differ.
        count: how many entries differ; of a wrong shape, once that is mended, and 0 where it cannot
            be. Where random products were compared, how many of the output's entries have one.
        largest: the largest difference; infinite where one value is finite and the other is not.
        mistakes: those that were recognized.
        products: how many random products were compared in place of the entries; 0 for none.
        compared: whether values were; not where the shape is wrong beyond mending.
        mended: what was given, in the exact shape, if it was of another; None if not.
    """

    leaf: str
    out_shape: tuple[int, ...]
    wrt_shape: tuple[int, ...]
    given_shape: tuple[int, ...]
    differences: tuple[Difference, ...] = ()
    count: int = 0
    largest: float = 0.0
    mistakes: tuple[Mistake, ...] = ()
    products: int = 0
    compared: bool = True
    mended: Any = field(default=None, repr=False, compare=False)

    @property
    def right(self) -> bool:
        """Whether nothing differs."""
        return not self.count and not self.mistakes

    @property
    def size(self) -> int:
        """The number of entries of the exact derivative."""
        total = 1
        for axis in self.out_shape + self.wrt_shape:
            total *= axis
        return total

    def lines(self) -> list[str]:
        """What the report says of this leaf."""
        shape = f"{self.out_shape} + {self.wrt_shape}" if self.out_shape else f"{self.wrt_shape}"
        if self.given_shape != self.out_shape + self.wrt_shape:
            shape = f"{self.given_shape}, wanted {shape}"
        lines = [f"  {self.leaf}, of shape {shape}: {self._counted()}"]
        for mistake in self.mistakes:
            lines += [f"    {mistake.name}: {mistake.hint}"]
        lines += [f"    {difference}" for difference in self.differences]
        more = self.count - len(self.differences)
        return [*lines, f"    and {more:,} more"] if self.differences and more > 0 else lines

    def _counted(self) -> str:
        """How many entries differ, in words."""
        if not self.count:
            if not self.compared:
                return "no entry compared"
            return "right" if self.right else "every entry is right once that is mended"
        how = f"{self.count:,} of {self.size:,} entries differ"
        if self.products:
            how = (
                f"at least {self.count:,} of {self.size:,} entries differ "
                f"(found by {self.products} random products)"
            )
        return f"{how}, by up to {self.largest:.6g}"


@dataclass(frozen=True)
class JacobianReport:
    """The answer of `check_jacobian`: true where the given derivative is right.

    Attributes:
        function: name of the function.
        derivative: which derivative was compared: "Jacobian", "Hessian" or "gradient".
        leaves: one report each, by output and then by variable; empty if the trees differ.
        tree: how the given tree differs; None where it does not.
        notes: what else was seen, such as what differences say.

    Examples:
        >>> import numpy as np
        >>> import blockjac
        >>> report = blockjac.check_jacobian(lambda x: x**2, lambda x: 2 * x, np.arange(3.0))
        >>> report.right, report.mistakes
        (False, ('missing delta',))
    """

    function: str
    derivative: str
    leaves: tuple[LeafReport, ...] = ()
    tree: Mistake | None = None
    notes: tuple[str, ...] = ()

    @property
    def right(self) -> bool:
        """Whether everything agrees."""
        return self.tree is None and all(leaf.right for leaf in self.leaves)

    def __bool__(self) -> bool:
        return self.right

    @property
    def mistakes(self) -> tuple[str, ...]:
        """The names of the mistakes that were recognized, each once."""
        if self.tree is not None:
            return (self.tree.name,)
        names = (mistake.name for leaf in self.leaves for mistake in leaf.mistakes)
        return tuple(dict.fromkeys(names))

    @property
    def differences(self) -> tuple[Difference, ...]:
        """The first entries that differ."""
        shown = (difference for leaf in self.leaves for difference in leaf.differences)
        return tuple(shown)[:SHOWN]

    @property
    def count(self) -> int:
        """How many entries differ, at least."""
        return sum(leaf.count for leaf in self.leaves)

    @property
    def largest(self) -> float:
        """The largest difference."""
        return max((leaf.largest for leaf in self.leaves), default=0.0)

    def raise_if_wrong(self) -> None:
        """Raise unless everything agrees.

        Raises:
            WrongJacobianError: with the text of the report.
        """
        if not self.right:
            raise WrongJacobianError(str(self))

    def __repr__(self) -> str:
        return str(self)  # what a notebook or a prompt shows

    def __str__(self) -> str:
        subject = f"the given {self.derivative} of {self.function}"
        if self.tree is not None:
            return f"{subject} is wrong\n  {self.tree.name}: {self.tree.hint}"
        notes = [f"  {note}" for note in self.notes]
        if self.right:
            return "\n".join([f"{subject} is right: {_agreed(self.leaves)}", *notes])
        wrong = [leaf for leaf in self.leaves if not leaf.right]
        lines = [line for leaf in wrong for line in leaf.lines()]
        right_count = len(self.leaves) - len(wrong)
        if right_count:
            lines.append(f"  the other {right_count} of {len(self.leaves)} derivatives are right")
        return "\n".join([f"{subject} is wrong", *lines, *notes])


def _agreed(leaves: Sequence[LeafReport]) -> str:
    """How many entries agree, and which leaves were compared by products."""
    entries = sum(leaf.size for leaf in leaves if not leaf.products)
    products = [leaf for leaf in leaves if leaf.products]
    words = [f"all {entries:,} entries agree"] if entries or not products else []
    words += [
        f"{leaf.leaf}, with {leaf.size:,} entries, agrees in {leaf.products} random products"
        for leaf in products
    ]
    return "; ".join(words)


def _number(value: Any) -> str:
    return f"{value:.9g}"
