"""Writes the learning pages: a page for each question, and one with all of them in groups.

Everything on a page that is mathematics comes from `blockjac.explain`, and is checked twice before
the page says so: the formulas against the Jacobian, and the Jacobian against the textbook's answer.
`python docs/learn/generate.py FOLDER` writes the pages as Markdown; the site's build takes them
from memory (`docs/learn_hook.py`).
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np

import blockjac

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from learn.question import Question
from learn.questions import GROUPS, QUESTIONS

FOUND = "Found by numbers"
SECTIONS = (
    "Steps",
    "The chain rule",
    "Elemental Jacobians",
    "Backpropagation with indices",
    FOUND,
)
"""The parts of an explanation that pages show; the other parts say what needs no question."""

LINE = re.compile(r"(, )?\w+\.py:\d+:\d+ \(\w+\)")
"""Where a step stands in the source."""

EMPTY = '<span class="remark"></span>'

RTOL, ATOL = 1e-9, 1e-12
SEEDS = (0, 1)

INDEX = """# Learn: thirty questions about derivatives

Each page has a question, a function, the formula of its Jacobian, a program for it in NumPy, and a
picture of where its entries are. Everything on the pages is what
[`explain`](../how-to/explain-a-derivative.md) gives for the function. The formulas were evaluated
and compared with the Jacobian, and the Jacobian with the answer that textbooks give, at
random arguments.
"""


@dataclass(frozen=True)
class Verdict:
    """What was checked about a question.

    Attributes:
        formulas: whether the printed formulas give the Jacobian; None if that was not tried.
        textbook: whether the Jacobian is the textbook's.
    """

    formulas: bool | None
    textbook: bool

    def __str__(self) -> str:
        """The sentence on the page."""
        formulas = {
            True: "Every formula above was evaluated at random arguments, and gives the Jacobian "
            "that the library computes without them.",
            False: "**The formulas above are wrong**: evaluated, they do not give the Jacobian.",
            None: "**The formulas above were not checked.**",
        }[self.formulas]
        if self.textbook:
            return f"{formulas} The Jacobian was checked against the textbook's answer."
        return f"{formulas} **The Jacobian differs from the textbook's answer.**"


def explained(question: Question) -> blockjac.Explanation:
    """The explanation of a question's function."""
    return blockjac.explain(question.function, question.by)(*question.draw(SEEDS[0]))


def verdict(question: Question, explanation: blockjac.Explanation) -> Verdict:
    """Check the formulas, and the Jacobian at two random points."""
    return Verdict(explanation.checked, all(is_textbook(question, seed) for seed in SEEDS))


def is_textbook(question: Question, seed: int) -> bool:
    """Whether the Jacobian is the textbook's at random arguments."""
    arguments = question.draw(seed)
    jacobian = blockjac.jacobian(question.function, question.by)(*arguments)
    wanted = question.textbook(*arguments)
    pairs = zip(jax.tree.leaves(jacobian), wanted, strict=True)
    return all(
        np.shape(own) == np.shape(book) and np.allclose(own, book, RTOL, ATOL)
        for own, book in pairs
    )


def page(question: Question) -> str:
    """The page of a question, as Markdown."""
    with jax.enable_x64(True):
        explanation = explained(question)
        parts = [
            f"# {question.title}",
            question.text,
            "## The function",
            fenced(source(question)),
            spaces(question),
            *(part for name in SECTIONS for part in section(explanation, name)),
            "## Checked",
            str(verdict(question, explanation)),
            "## In NumPy",
            "The module that `explain(...).code()` writes; it runs without this library.",
            fenced(explanation.code("numpy")),
            "## Where the entries are",
            *pictures(question),
            "[All questions](index.md)",
        ]
    return "\n\n".join(parts) + "\n"


def fenced(code: str) -> str:
    """Source between fences."""
    return f"```python\n{code.strip()}\n```"


def source(question: Question) -> str:
    """The function with the steps that it calls."""
    functions = (*question.steps, question.function)
    return "\n\n".join(inspect.getsource(function).strip() + "\n" for function in functions)


def spaces(question: Question) -> str:
    """The shapes of the arguments, in one sentence."""
    names = list(inspect.signature(question.function).parameters)
    shapes = [
        f"`{name}` has the shape `{argument.shape}`" if argument.shape else f"`{name}` is a number"
        for name, argument in zip(names, question.arguments, strict=True)
    ]
    by = " and ".join(f"`{names[position]}`" for position in question.argnums)
    return f"Here {', '.join(shapes)}; differentiated by {by}."


def section(explanation: blockjac.Explanation, title: str) -> list[str]:
    """A section of an explanation, with MathML and without the lines of source it comes from."""
    pattern = rf"<section>\n<h2>{title}</h2>\n(.*?)\n</section>"
    match = re.search(pattern, explanation._repr_html_(), re.S)
    if match is None:
        return []
    lines = [LINE.sub("", line).replace(EMPTY, "") for line in match[1].splitlines()]
    if title == FOUND:  # a claim about the result of a primitive tells a reader little
        lines = [line for line in lines if "<msub><mi>v</mi>" not in line]
    return [f"## {title}", "\n".join(lines)] if lines else []


def pictures(question: Question) -> Sequence[str]:
    """Each block as a notebook shows it: its structure, what it stores, where its entries are."""
    arguments = question.draw(SEEDS[0])
    blocks = blockjac.block_jacobian(question.function, question.by)(*arguments)
    names = list(inspect.signature(question.function).parameters)
    leaves = jax.tree.leaves(blocks, is_leaf=lambda own: isinstance(own, blockjac.Block))
    return [
        f"By `{names[position]}`:\n\n{block._repr_html_()}"
        for position, block in zip(question.argnums, leaves, strict=True)
    ]


def index() -> str:
    """The page with all questions in groups."""
    parts = [INDEX]
    for group in GROUPS:
        lines = [f"- [{own.title}]({own.address}.md)" for own in group.questions]
        parts.append(f"## {group.title}\n\n" + "\n".join(lines) + "\n")
    return "\n".join(parts)


def navigation() -> list[dict[str, object]]:
    """The pages as the site's navigation lists them."""
    groups: list[dict[str, object]] = [
        {group.title: [{own.title: f"learn/{own.address}.md"} for own in group.questions]}
        for group in GROUPS
    ]
    return [{"All questions": "learn/index.md"}, *groups]


def pages() -> dict[str, str]:
    """All pages by the names of their files."""
    return {"index.md": index()} | {f"{own.address}.md": page(own) for own in QUESTIONS}


def main() -> None:
    """Write the pages into the folder named."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
