"""What a page knows of an explanation: its graph, Blocks, drawing and game, each made once."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from html import escape
from typing import Any

from blockjac.explanations.chain_rule import ChainRule
from blockjac.explanations.document import MOST_SHOWN, Document
from blockjac.explanations.equations import Equations
from blockjac.explanations.formulas import Elemental
from blockjac.explanations.html import math as mathml
from blockjac.explanations.layout import Equation
from blockjac.explanations.names import Derivative, Name
from blockjac.explanations.numbers import Numbers
from blockjac.explanations.page.blocks import EdgeBlock, edge_blocks
from blockjac.explanations.page.drawing import Drawing, drawing
from blockjac.explanations.page.game import Game, game_of
from blockjac.explanations.page.heat import SIDE, heat
from blockjac.explanations.page.kinds import WORDS, kind_of
from blockjac.explanations.page.signatures import compact
from blockjac.explanations.page.step_graph import StepGraph, step_graph
from blockjac.explanations.program import Program
from blockjac.explanations.sections import NO_FORMULA, application_of, has_more_steps, title_of
from blockjac.explanations.styles.mathml import MATHML
from blockjac.explanations.styles.text import TEXT

CELLS = 300_000
"""Letters that all pictures of Blocks take together; of many Blocks each is drawn coarser."""

LEAST_SIDE = 8
"""Cells down and across of the coarsest picture."""

MOST_IN_LINE = 8
"""A line between folded boxes shows the first of its edges alone."""


@dataclass(eq=False)
class PageParts:
    """The parts of a page, each computed once, when it is asked for.

    Attributes:
        program: the function as named steps.
        rules: the chain rule of each result.
        numbers: the arrays at a point.
        steps: the elemental Jacobians.
        formulas: backpropagation with indices.
        document: the sections, of at most that many lines each.
    """

    program: Program
    rules: Callable[[], tuple[ChainRule, ...]]
    numbers: Callable[[], Numbers]
    steps: Callable[[], tuple[Elemental, ...]]
    formulas: Callable[[], Equations]
    document: Callable[[int | None], Document]

    @property
    def title(self) -> str:
        """What the page is of."""
        return title_of(self.program)

    @cached_property
    def graph(self) -> StepGraph:
        """The graph of the steps."""
        return step_graph(self.program, self.rules())

    @cached_property
    def blocks(self) -> list[EdgeBlock]:
        """The Block of every edge."""
        return edge_blocks(self.graph, self.numbers)

    @cached_property
    def words(self) -> list[str]:
        """The structure of every edge in a word."""
        return [kind_of(own) for own in self.blocks]

    @cached_property
    def drawing(self) -> Drawing:
        """The boxes and lines."""
        return drawing(self.graph, self.words)

    @cached_property
    def game(self) -> Game:
        """The elimination."""
        return game_of(self.graph, self.blocks)

    def data(self, most: int | None = MOST_SHOWN) -> str:
        """All that the page's script reads, as JSON that may stand in a script.

        Args:
            most: of more steps than this, formulas are left out; None for all.
        """
        is_large = has_more_steps(self.program, most)
        known = {
            "vertices": self._vertices(is_large),
            "edges": self._edges(is_large),
            "boxes": [box.vertices for box in self.drawing.boxes],
            "lines": [[line.edges, line.tail, line.head] for line in self.drawing.lines],
            "kinds": WORDS,
            "game": game_data(self.game),
            "large": is_large,
        }
        text = json.dumps(known, ensure_ascii=False, separators=(",", ":"))
        for letter in "<\u2028\u2029":  # what would end the script, or a line of it
            text = text.replace(letter, f"\\u{ord(letter):04x}")
        return text

    def _vertices(self, is_large: bool) -> list[dict[str, Any]]:
        """Name, shape, formula and adjoint of each vertex."""
        formulas: dict[Name | Derivative, list[Equation]] = {}
        for equation in () if is_large else self.formulas().equations:
            name = getattr(equation, "name", None)
            if name is not None:
                formulas.setdefault(name, []).append(equation)
        rows: list[dict[str, Any]] = []
        for vertex in self.graph.vertices:
            variable, step = vertex.variable, vertex.step
            known: dict[str, Any] = {"name": TEXT.name(variable.name), "shape": variable.shape}
            if step is not None:
                known["step"] = TEXT.name(step.name)
            if vertex.is_result:
                known["result"] = 1
            if not is_large:
                known["space"] = f"<math>{MATHML.space(variable.shape)}</math>"
                if step is not None:
                    known["formula"] = mathml(application_of(self.program, step))
                own = [
                    equation
                    for rule in self.rules()
                    for name in (rule.adjoint(variable.number), rule.derivative(variable.number))
                    for equation in formulas.get(name, ())
                ]
                if own:
                    known["adjoint"] = "".join(
                        f'<div class="equation">{mathml(own)}</div>' for own in dict.fromkeys(own)
                    )
            rows.append(known)
        return rows

    def _edges(self, is_large: bool) -> list[dict[str, Any]]:
        """Structure, sizes, formula and picture of each edge."""
        formulas: dict[tuple[int, int], str] = {}
        for elemental in () if is_large else self.steps():
            use = elemental.use
            if elemental.formula is None:
                formulas[use.tail, use.head] = NO_FORMULA.format(use.step.word)
                continue
            written = f'<div class="equation">{mathml(elemental.formula)}</div>'
            for name, definition in elemental.definitions:
                if isinstance(definition, str):
                    words = escape(f"where {TEXT.name(name)} is computed by {definition}")
                    written += f'<div class="depth1">{words}</div>'
                else:
                    written += f'<div class="equation depth1">{mathml(definition)}</div>'
            formulas[use.tail, use.head] = written
        shown = {n for line in self.drawing.lines for n in line.edges[:MOST_IN_LINE]}
        count = max(len(shown), 1)
        side = max(LEAST_SIDE, min(SIDE, math.isqrt(CELLS // count)))
        pictures: dict[tuple[Any, ...], int] = {}
        rows: list[dict[str, Any]] = []
        for number, (edge, own, word) in enumerate(
            zip(self.graph.edges, self.blocks, self.words, strict=True)
        ):
            if number not in shown:
                rows.append({"tail": edge.tail, "head": edge.head})
                continue
            head, tail = (self.graph.vertices[end].variable for end in (edge.head, edge.tail))
            known: dict[str, Any] = {
                "tail": edge.tail,
                "head": edge.head,
                "name": TEXT.derivative(edge.derivative),
                "kind": word,
                "out": head.axes,
                "wrt": tail.axes,
            }
            if not is_large:
                known["math"] = f"<math>{MATHML.derivative(edge.derivative)}</math>"
                known["formula"] = formulas.get((edge.use.tail, edge.use.head), "")
            if own.block is not None:
                known["stored"] = own.block.stored
                known["structure"] = own.block.structure[:300]
                picture = heat(own.block, side)
                if picture is not None:
                    scale = float(f"{picture.scale:.4g}")
                    cells = picture.down, picture.across, scale, picture.cells
                    if cells in pictures:
                        known["like"] = pictures[cells]
                    else:
                        pictures[cells] = len(rows)
                        known["heat"] = cells
            rows.append(known)
        return rows


def game_data(game: Game) -> dict[str, Any]:
    """A game as lists; each structure once, its arrays numbered in every edge."""
    kinds: dict[str, int] = {}
    structures: list[Any] = []
    edges: list[Any] = []
    for tail, head, signature in game.edges:
        if signature is None:
            edges.append([tail, head, -1])
            continue
        written = compact(signature, game.numbering.sizes)
        arrays: dict[int, int] = {0: 0}
        for _, factors, indices in written[3]:
            for factor in factors:
                factor[0] = arrays.setdefault(factor[0], len(arrays))
            for index in indices:
                index[2] = arrays.setdefault(index[2], len(arrays))
        key = json.dumps(written)
        if key not in kinds:
            kinds[key] = len(structures)
            structures.append(written)
        edges.append([tail, head, kinds[key], list(arrays)[1:]])
    return {
        "arrays": game.numbering.arrays,
        "weights": game.weights,
        "inner": game.inner,
        "edges": edges,
        "kinds": structures,
        "results": list(game.results.items()),
    }
