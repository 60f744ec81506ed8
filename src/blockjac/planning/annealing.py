"""The search for a cheap order: annealing over the orders of elimination."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

from blockjac.errors import OrderError
from blockjac.planning.elimination_state import Elimination, State

OBJECTIVES = ("edge_products", "multiplications", "seconds")
"""What a search can make small."""

ROUNDS = 4
"""How often the search cools down, each time from the best order so far."""

FIRST_TEMPERATURE = 0.004
"""As a share of the price of the order that the search starts from."""

LAST_TEMPERATURE = 0.0003

REACH = 0.12
"""The mean distance of a move, as a share of the number of vertices."""


@dataclass(frozen=True)
class Search:
    """Search for the order of elimination by annealing; for `order=`.

    The same steps and seed give the same order. It is never worse than reverse, forward and greedy
    order, from the best of which the search starts.

    Attributes:
        steps: how many changes of the order are tried.
        seed: of the random changes.
        seconds: stop after this time, however many steps are left; None for no limit. The order
            then depends on the speed of the machine.
        objective: what is made small: "edge_products" (the literature's count), "multiplications"
            (those that the emitted program makes), or "seconds" (the predicted time).

    Raises:
        OrderError: for steps or seconds below 0 and for an objective that does not exist.

    Examples:
        >>> import jax.numpy as jnp
        >>> import blockjac
        >>> f = lambda x: jnp.sin(jnp.sum(x[:, None] * x) * x)
        >>> blockjac.jacobian(f, order=blockjac.Search(steps=100))(jnp.ones(3)).shape
        (3, 3)
    """

    steps: int = 200_000
    seed: int = 0
    seconds: float | None = None
    objective: str = "edge_products"

    def __post_init__(self) -> None:
        if self.steps < 0 or (self.seconds is not None and self.seconds < 0):
            raise OrderError(
                f"a search needs steps and seconds of at least 0, but has steps={self.steps} and "
                f"seconds={self.seconds}"
            )
        if self.objective not in OBJECTIVES:
            raise OrderError(
                f"the objective of a search is {self.objective!r}, but must be one of "
                f"{', '.join(map(repr, OBJECTIVES))}"
            )


def annealed(elimination: Elimination, order: Sequence[int], search: Search) -> list[int]:
    """The cheapest order that annealing finds from a given one.

    A change moves one vertex, exchanges two, or moves a few that follow each other. What lies
    before the changed span stays, and so does what lies behind where the same edges are left.

    Args:
        elimination: of the graph.
        order: all vertices that may be eliminated.
        search: steps, seed, seconds.
    """
    best = list(order)
    if len(order) < 2:
        return best
    chance = random.Random(search.seed)
    stop = math.inf if search.seconds is None else time.perf_counter() + search.seconds
    for round_ in range(ROUNDS):
        walk = _Walk(elimination, best)
        best_price = walk.price
        steps = (search.steps + round_) // ROUNDS
        temperature = FIRST_TEMPERATURE * walk.price
        cooling = (LAST_TEMPERATURE / FIRST_TEMPERATURE) ** (1 / max(steps, 1))
        for step in range(steps):
            if step % 64 == 0 and time.perf_counter() > stop:
                return best
            temperature *= cooling
            low, changed = _change(walk.order, chance)
            walk.try_span(low, changed, -temperature * math.log(1 - chance.random()))
            if walk.price < best_price:
                best, best_price = list(walk.order), walk.price
    return best


class _Walk:
    """An order, with the state before each of its moves and the price of each."""

    def __init__(self, elimination: Elimination, order: Sequence[int]) -> None:
        self.elimination = elimination
        self.order = list(order)
        self.states: list[State] = [elimination.start]
        self.prices: list[float] = []
        for vertex in self.order:
            state, price = elimination.move(self.states[-1], vertex)
            self.states.append(state)
            self.prices.append(price)
        self.price = sum(self.prices)

    def try_span(self, low: int, changed: Sequence[int], allowed: float) -> None:
        """Put other vertices from place `low` on, unless that costs more than is allowed."""
        move, before = self.elimination.move, self.states
        high = low + len(changed)
        left = sum(self.prices[low:high]) + allowed
        state = before[low]
        states: list[State] = []
        prices: list[float] = []
        for vertex in changed:
            state, price = move(state, vertex)
            left -= price
            if left < 0:
                return
            states.append(state)
            prices.append(price)
        # The same vertices are gone; where other structures are left, the rest costs otherwise.
        while state != before[high] and high < len(self.order):
            state, price = move(state, self.order[high])
            left += self.prices[high] - price
            if left < 0:
                return
            states.append(state)
            prices.append(price)
            high += 1
        self.price += sum(prices) - sum(self.prices[low:high])
        self.order[low : low + len(changed)] = changed
        self.prices[low:high] = prices
        self.states[low + 1 : high + 1] = states


def _change(order: Sequence[int], chance: random.Random) -> tuple[int, list[int]]:
    """A random change of an order: where it begins, and the vertices there after it."""
    count = len(order)
    distance = 1 + int(chance.expovariate(1 / (1 + REACH * count)))
    kind = chance.random()
    size = 1 if kind < 0.75 else min(2 + int(chance.expovariate(0.5)), count - 1)
    distance = min(distance, count - size)
    low = chance.randrange(count - size - distance + 1)
    high = low + size + distance
    span = list(order[low:high])
    if 0.6 <= kind < 0.75:
        span[0], span[-1] = span[-1], span[0]
        return low, span
    later = kind < 0.35 or (kind >= 0.75 and chance.random() < 0.5)
    return low, [*span[size:], *span[:size]] if later else [*span[-size:], *span[:-size]]
