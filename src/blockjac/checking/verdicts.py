"""What an exercise says of an answer: block by block, without giving the solution away."""

from __future__ import annotations

from dataclasses import dataclass

from blockjac.checking.report import JacobianReport, LeafReport, Mistake


@dataclass(frozen=True)
class BlockVerdict:
    """The verdict on one block of a derivative.

    Attributes:
        name: of the block, such as `D_W loss`.
        shape: the one that is wanted.
        given_shape: the one that was given; None if nothing was.
        right: whether every entry agrees.
        mistakes: those that were recognized.
        count: how many entries differ.
    """

    name: str
    shape: tuple[int, ...]
    given_shape: tuple[int, ...] | None = None
    right: bool = False
    mistakes: tuple[Mistake, ...] = ()
    count: int = 0

    @staticmethod
    def of(leaf: LeafReport) -> BlockVerdict:
        """The verdict that a report comes to."""
        shape = leaf.out_shape + leaf.wrt_shape
        return BlockVerdict(
            leaf.leaf, shape, leaf.given_shape, leaf.right, leaf.mistakes, leaf.count
        )

    def __str__(self) -> str:
        head = f"{self.name}, of shape {self.shape}"
        if self.right:
            return f"{head}: right"
        if self.given_shape is None:
            return f"{head}: not compared"
        if self.mistakes:
            return f"{head}: " + "; ".join(f"{m.name}: {m.hint}" for m in self.mistakes)
        return f"{head}: wrong in {self.count:,} entries, and not recognized"


@dataclass(frozen=True)
class Verdict:
    """The answer of an exercise to an attempt: true where every block is right.

    Attributes:
        function: the exercise's function.
        blocks: one verdict each.
        problem: what kept the attempt from being compared, such as an exception; None if nothing.
        report: the whole comparison, with the right values; None if there was none.
    """

    function: str
    blocks: tuple[BlockVerdict, ...]
    problem: Mistake | None = None
    report: JacobianReport | None = None

    @property
    def right(self) -> bool:
        """Whether every block is right."""
        return self.problem is None and all(block.right for block in self.blocks)

    def __bool__(self) -> bool:
        return self.right

    @property
    def score(self) -> float:
        """The share of blocks that are right, from 0 to 1."""
        return sum(block.right for block in self.blocks) / max(1, len(self.blocks))

    @property
    def mistakes(self) -> tuple[str, ...]:
        """The names of the mistakes that were recognized, each once."""
        first = () if self.problem is None else (self.problem.name,)
        names = (mistake.name for block in self.blocks for mistake in block.mistakes)
        return tuple(dict.fromkeys((*first, *names)))

    def __repr__(self) -> str:
        return str(self)  # what a notebook or a prompt shows

    def __str__(self) -> str:
        right = sum(block.right for block in self.blocks)
        lines = [f"{self.function}: {right} of {len(self.blocks)} blocks are right"]
        if self.problem is not None:
            lines.append(f"  {self.problem.name}: {self.problem.hint}")
        if self.problem is None or self.report is not None:
            lines += [f"  {block}" for block in self.blocks]
        return "\n".join(lines)
