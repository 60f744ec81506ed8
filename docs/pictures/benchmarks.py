"""Fill the tables of explanation/benchmarks.md from benchmarks/results, and draw its pictures.

Run it after a measurement, in an environment with the extra `app`:
`python docs/pictures/benchmarks.py`. A test fails where the page and the results disagree.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).resolve().parent.parent
PAGE = DOCS / "explanation" / "benchmarks.md"
RESULTS = DOCS.parent / "benchmarks" / "results"
OURS = "blockjac"
NO_RIVALS = (
    "the function",
    "floor",
    "constraints themselves",
    "gradient of the mean",
    "diffrax, 3 x 3 systems by hand",
)
"""Contenders that give no derivative, or are written for one program: how their names begin."""
UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6}
PUBLIC = {
    "matrix_products": "Jacobian of A x",
    "adbench": "ADBench",
    "gradbench": "GradBench",
    "banded": "Bands, chains, control, CUTEst",
    "nonlinear_programs": "Callbacks for IPOPT",
    "stiff_equations": "Stiff equations",
    "least_squares": "Nonlinear least squares",
    "interop_training": "Private training and flows",
    "natural_gradients": "Natural gradients",
}
"""Pages of results that the page shows whole, and what they are of."""
MARKED = re.compile(r"(<!-- (?P<name>[\w ]+) -->\n).*?(<!-- end -->)", re.DOTALL)
NUMBER = re.compile(r"(?P<number>[\d.e+-]+) (?P<unit>s|ms|us)")


@dataclass(frozen=True)
class Contender:
    """A row of a table.

    Attributes:
        name: who.
        time: the median as printed, or why there is none.
        seconds: the median; None where it was not timed.
        ratio: our time over its.
        first: what the first call took, as printed.
    """

    name: str
    time: str
    seconds: float | None
    ratio: float | None
    first: str


@dataclass(frozen=True)
class Task:
    """A section of a page of results.

    Attributes:
        title: what was computed.
        contenders: who computed it.
        missed: the claims that did not hold, as lines.
        held: how many claims did.
    """

    title: str
    contenders: tuple[Contender, ...]
    missed: tuple[str, ...]
    held: int

    @property
    def ours(self) -> Contender | None:
        """What ours took; None where the table has no such row."""
        return next((one for one in self.contenders if one.name == OURS), None)

    @property
    def rival(self) -> Contender | None:
        """The fastest of the others that give the derivative; None where none was timed."""
        timed = [
            one
            for one in self.contenders
            if one.seconds is not None and not one.name.startswith((OURS, *NO_RIVALS))
        ]
        return min(timed, key=lambda one: one.seconds or 0.0, default=None)


def seconds(text: str) -> float | None:
    """A duration as the results print it; None for words."""
    match = NUMBER.fullmatch(text)
    return float(match["number"]) * UNITS[match["unit"]] if match else None


def contender(line: str) -> Contender:
    """A row of the table of a task."""
    name, time, _, _, first, _, ratio = [cell.strip() for cell in line.strip()[1:-1].split("|")]
    number = float(ratio.removesuffix(" x")) if ratio else None
    return Contender(name, time, seconds(time), number, first)


def task(section: str) -> Task:
    """A section of a page, from its title on."""
    title, *lines = section.splitlines()
    rows = [
        contender(line)
        for line in lines
        if line.startswith("| ") and line.count("|") == 8 and not line.startswith("| contender")
    ]
    verdicts = [line.removeprefix("- ") for line in lines if line.startswith("- ")]
    return Task(
        title,
        tuple(rows),
        tuple(line for line in verdicts if "**missed**" in line),
        sum(line.endswith(", met") or ": met" in line for line in verdicts),
    )


def tasks(page: Path) -> list[Task]:
    """All sections of a page of results."""
    if not page.exists():
        return []
    head, *sections = page.read_text(encoding="utf-8").split("\n## ")
    whole = task(head.removeprefix("# "))  # what holds, or not, over all tasks
    found = [task(section) for section in sections]
    return [whole, *found] if whole.missed else found


def circumstances(page: Path) -> str:
    """When and where a page was measured, as the page says."""
    if not page.exists():
        return "Not measured yet."
    lines = [line[2:] for line in page.read_text(encoding="utf-8").split("\n## ")[0].splitlines()]
    when, _, where = [line for line in lines if line][-3:]
    return f"Measured {when}, {where}."


def bold(text: str, is_bold: bool) -> str:
    """The text, in bold type if asked."""
    return f"**{text}**" if is_bold else text


def public_table(name: str) -> str:
    """All tasks of one page: ours, the fastest of the others, and what a first call takes."""
    page = RESULTS / f"{name}.md"
    lines = [
        circumstances(page),
        "",
        "| task | blockjac | fastest other | which | ratio | first call |",
        "|---|---|---|---|---|---|",
    ]
    for one in tasks(page):
        ours, rival = one.ours, one.rival
        mine = "" if ours is None else ours.time
        firsts = [each.first for each in one.contenders if each.name.startswith(OURS)]
        first = next((text for text in firsts if text), "")
        if rival is None or rival.ratio is None:
            lines.append(f"| {one.title} | {mine} | | none was timed | | {first} |")
            continue
        ratio = bold(f"{rival.ratio:.3g}", rival.ratio > 1)
        lines.append(f"| {one.title} | {mine} | {rival.time} | {rival.name} | {ratio} | {first} |")
    return "\n".join([*lines, ""])


def pages() -> list[Path]:
    """All pages of results, those of accelerators last."""
    return [*sorted(RESULTS.glob("*.md")), *sorted(RESULTS.glob("*/*.md"))]


def losses_table() -> str:
    """Every claim of every page that did not hold, and who was not timed at all."""
    lines = ["| page | task | what was missed |", "|---|---|---|"]
    for page in pages():
        where = page.relative_to(RESULTS).with_suffix("").as_posix()
        for one in tasks(page):
            lines += [
                f"| `{where}` | {one.title} | {line.replace(', **missed**', '')} |"
                for line in one.missed
            ]
    return "\n".join([*lines, ""])


def counts_table() -> str:
    """How many claims of each page hold."""
    lines = ["| page | claims met | missed |", "|---|---|---|"]
    for page in pages():
        held = sum(one.held for one in tasks(page))
        missed = sum(len(one.missed) for one in tasks(page))
        where = page.relative_to(RESULTS).with_suffix("").as_posix()
        lines.append(f"| `{where}` | {held} | {bold(str(missed), missed > 0)} |")
    return "\n".join([*lines, ""])


TABLES: dict[str, Callable[[], str]] = {
    **{name: lambda name=name: public_table(name) for name in PUBLIC},
    "losses": losses_table,
    "counts": counts_table,
}


def filled(text: str) -> str:
    """A page with each table between its marks as the results have it now."""

    def table(match: re.Match[str]) -> str:
        return f"{match[1]}\n{TABLES[match['name']]()}\n{match[3]}"

    return MARKED.sub(table, text)


BLUE, ORANGE, GREY = "#3f51b5", "#e8871e", "#666666"


def short(title: str, most: int = 78) -> str:
    """A title that fits above its bar."""
    return title if len(title) <= most else f"{title[: most - 1].rstrip(' ,')}…"


def in_figures(ratio: float) -> str:
    """Two digits of a ratio, or all before the point."""
    return f"{ratio:.0f}" if ratio >= 100 else f"{ratio:.2g}"


def bars(rows: Sequence[tuple[str, float]], title: str, out: Path) -> None:
    """Draw ratios as bars from 1, on a logarithmic axis; narrow enough for a telephone."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    plt.rcParams.update({"svg.hashsalt": "blockjac", "font.family": "DejaVu Sans", "font.size": 8})
    names, ratios = zip(*rows, strict=True)
    figure, axes = plt.subplots(figsize=(5, 0.4 + 0.4 * len(names)), layout="constrained")
    for place, (name, ratio) in enumerate(rows):
        is_slower = ratio > 1
        colour = ORANGE if is_slower else BLUE
        axes.barh(place + 0.2, ratio - 1, left=1, color=colour, height=0.4)
        axes.vlines(1, place - 0.05, place + 0.45, color=GREY, linewidth=0.8)
        shift, side = (1.05, "left") if is_slower else (1 / 1.05, "right")
        axes.text(ratio * shift, place + 0.2, in_figures(ratio), va="center", ha=side)
        axes.text(0, place - 0.2, name, transform=axes.get_yaxis_transform(), va="center")
    axes.set_xscale("log")
    reach = (max(max(ratios), 2) / min(min(ratios), 0.5)) ** 0.15
    axes.set_xlim(min(min(ratios), 0.5) / reach, max(max(ratios), 2) * reach)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.axis("off")
    axes.set_title(title, fontsize=9, loc="left", weight="bold")
    figure.savefig(out, metadata={"Date": None}, facecolor="white")
    plt.close(figure)


def draw() -> None:
    """A picture for each public page that was measured."""
    for name, words in PUBLIC.items():
        rows = [
            (short(one.title), one.rival.ratio)
            for one in tasks(RESULTS / f"{name}.md")
            if one.rival is not None and one.rival.ratio is not None
        ]
        if rows:
            title = f"{words}: time over the fastest other"
            bars(rows, title, DOCS / "pictures" / f"benchmarks-{name.replace('_', '-')}.svg")


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    draw()
