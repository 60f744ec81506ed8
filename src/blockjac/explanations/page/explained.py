"""What a page is made of: the parts of an explanation, each made when it is asked for."""

from __future__ import annotations

from typing import Protocol

from blockjac.explanations.chain_rule import ChainRule
from blockjac.explanations.document import Document
from blockjac.explanations.numbers import Numbers
from blockjac.explanations.sections import Explained as Shown


class Explained(Shown, Protocol):
    """An explanation with its rules and numbers."""

    @property
    def rules(self) -> tuple[ChainRule, ...]:
        """The chain rule of each result."""
        ...

    @property
    def numbers(self) -> Numbers:
        """The arrays at a point."""
        ...

    def document(self, most: int | None = ...) -> Document:
        """Its sections."""
        ...
