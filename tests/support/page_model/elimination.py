"""Elimination of the steps in any order, on signatures: what each vertex costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from support.page_model.costs import Costs

from blockjac.explanations.page.game import Game
from blockjac.explanations.page.signatures import Index, Signature, Term


class Elimination:
    """A game that is being played.

    Attributes:
        costs: the counter.
        leaving: edges by tail and head; None for an identity.
        entering: tails by head.
    """

    def __init__(self, game: Game) -> None:
        """Nothing is eliminated yet."""
        self.costs = Costs(game.numbering.sizes, game.numbering.arrays, game.weights)
        self.leaving: dict[int, dict[int, Signature | None]] = {}
        self.entering: dict[int, dict[int, None]] = {}
        for tail, head, signature in game.edges:
            self._put(tail, head, signature)

    def _put(self, tail: int, head: int, signature: Signature | None) -> None:
        """Set an edge."""
        self.leaving.setdefault(tail, {})[head] = signature
        self.entering.setdefault(head, {})[tail] = None

    def eliminate(self, vertex: int) -> int:
        """Eliminate a vertex; returns the multiplications that it takes."""
        before = self.costs.multiplications
        products = [
            (tail, head, self._product(left, self.leaving[tail][vertex]))
            for head, left in self.leaving.get(vertex, {}).items()
            for tail in self.entering.get(vertex, {})
        ]
        for tail in self.entering.pop(vertex, {}):
            del self.leaving[tail][vertex]
        for head in self.leaving.pop(vertex, {}):
            del self.entering[head][vertex]
        for tail, head, product in products:
            if product is not None and not product.terms:
                continue
            if head in self.leaving.get(tail, {}):
                product = self._sum(self.leaving[tail][head], product)
            self._put(tail, head, product)
        return self.costs.multiplications - before

    def price(self, vertex: int) -> int:
        """The multiplications of a vertex's products, if it were eliminated next."""
        before = self.costs.multiplications
        for left in self.leaving.get(vertex, {}).values():
            for tail in self.entering.get(vertex, {}):
                self._product(left, self.leaving[tail][vertex])
        spent = self.costs.multiplications - before
        self.costs.multiplications = before
        return spent

    def write(self) -> int:
        """Write out what is left; returns the multiplications that it takes."""
        before = self.costs.multiplications
        for heads in self.leaving.values():
            for signature in heads.values():
                if signature is not None:
                    self.costs.write(signature)
        return self.costs.multiplications - before

    def _product(self, left: Signature | None, right: Signature | None) -> Signature | None:
        """The contraction of two edges; an identity is left out."""
        if left is None:
            return right
        return left if right is None else self.costs.star(left, right)

    def _sum(self, left: Signature | None, right: Signature | None) -> Signature:
        """The sum of two edges; identities are written as what they are."""
        known = left or right
        if known is None:
            raise ValueError("two identities lead to the same result")
        same = identity(self.costs.label, known.out_shape)
        return self.costs.add(left or same, right or same)


def spent(game: Game, order: Sequence[int]) -> list[int]:
    """The multiplications of each elimination of an order, and then of writing the answer out.

    Args:
        game: the graph.
        order: its inner vertices, each once.
    """
    elimination = Elimination(game)
    return [*(elimination.eliminate(vertex) for vertex in order), elimination.write()]


def cheapest(game: Game) -> list[int]:
    """The order that eliminates the cheapest vertex next, the last computed of equal ones."""
    elimination = Elimination(game)
    left = dict.fromkeys(reversed(game.inner))
    prices: dict[int, int] = {}
    order: list[int] = []
    while left:
        for vertex in left:
            if vertex not in prices:
                prices[vertex] = elimination.price(vertex)
        vertex = min(left, key=prices.__getitem__)
        beside = {*elimination.leaving.get(vertex, {}), *elimination.entering.get(vertex, {})}
        elimination.eliminate(vertex)
        for neighbor in (vertex, *beside):
            prices.pop(neighbor, None)
        del left[vertex]
        order.append(vertex)
    return order


def identity(label: Callable[[int], int], shape: Sequence[int]) -> Signature:
    """The structure of an identity.

    Args:
        label: gives a new label of a size.
        shape: of both sides.
    """
    indices = tuple(Index(0, ((label(size), 1),) if size != 1 else ()) for size in shape)
    return Signature(tuple(shape), tuple(shape), (Term(1.0, (), indices * 2),))
