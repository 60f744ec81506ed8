"""The page of the benchmarks says what the results say, and hides no loss."""

import re

import pytest
from support.docs_modules import load

page = load("pictures.benchmarks")

RESULTS = """# Something measured

- 2026-11-30 14:00 UTC
- blockjac 0.2.0, JAX 0.10.2
- A processor, 2 cores, cpu, float64 unless said, load 0.1 at the start

## Squares: Jacobian, 3 x 3

A note.

| contender | median | quartiles | minimum | first call | memory | blockjac takes |
|---|---|---|---|---|---|---|
| blockjac | 20 us | 19 us to 21 us | 18 us | 250 ms | 1 KiB |  |
| blockjac, dense | 10 us | 9 us to 11 us | 8 us | 250 ms | 1 KiB | 2 x |
| the function | 1 us | 1 us to 1 us | 1 us | 50 ms | 1 KiB | 20 x |
| jacfwd | 40 us | 39 us to 41 us | 38 us | 1.5 s | 1 KiB | 0.5 x |
| a peer | 16 us | 15 us to 17 us | 14 us |  |  | 1.25 x |
| missing | not installed (missing) | | | | | |

- blockjac at most 1 x a peer: 1.25 x, **missed**
- blockjac at most 1.05 x jacfwd: 0.5 x, met

## Alone

| contender | median | quartiles | minimum | first call | memory | blockjac takes |
|---|---|---|---|---|---|---|
| blockjac | ValueError: no / way | | | | | |
| jacfwd | 40 us | 39 us to 41 us | 38 us | 1.5 s | 1 KiB |  |

- blockjac at most 1 x jacfwd: ValueError: no / way, **missed**
"""


@pytest.fixture
def results(monkeypatch, tmp_path):
    """A folder with one page of results, which is taken for a public one."""
    (tmp_path / "gradbench.md").write_text(RESULTS)
    monkeypatch.setattr(page, "RESULTS", tmp_path)
    return tmp_path


def test_the_page_is_that_of_the_results():
    text = page.PAGE.read_text(encoding="utf-8")
    assert page.filled(text) == text, "run: python docs/pictures/benchmarks.py"


def test_every_claim_that_was_missed_is_on_the_page():
    text = page.PAGE.read_text(encoding="utf-8")
    missed = [
        line
        for results in page.pages()
        for line in results.read_text(encoding="utf-8").splitlines()
        if "**missed**" in line
    ]
    assert len(missed) > 10
    hidden = [line for line in missed if line[2:].replace(", **missed**", "") not in text]
    assert not hidden


def test_every_table_and_picture_of_the_page_exists():
    text = page.PAGE.read_text(encoding="utf-8")
    names = [match["name"] for match in page.MARKED.finditer(text)]
    assert sorted(names) == sorted(page.TABLES)
    for picture in re.findall(r"\]\((\S+\.svg)\)", text):
        drawn = page.PAGE.parent / picture
        assert drawn.exists(), f"{picture}: run python docs/pictures/benchmarks.py"
        assert drawn.stat().st_size < 200_000


def test_the_fastest_other_is_no_variant_of_ours_and_no_function(results):
    squares, alone = page.tasks(results / "gradbench.md")
    assert squares.title == "Squares: Jacobian, 3 x 3"
    assert (squares.ours.time, squares.ours.seconds, squares.ours.first) == (
        "20 us",
        pytest.approx(20e-6),
        "250 ms",
    )
    assert (squares.rival.name, squares.rival.ratio) == ("a peer", 1.25)
    assert squares.missed == ("blockjac at most 1 x a peer: 1.25 x, **missed**",)
    assert squares.held == 1
    assert alone.ours.seconds is None
    assert alone.rival.ratio is None
    assert len(alone.contenders) == 2


def test_tables_show_losses_in_bold_type(results):
    table = page.public_table("gradbench")
    assert "Measured 2026-11-30 14:00 UTC, A processor, 2 cores" in table
    line = "| Squares: Jacobian, 3 x 3 | 20 us | 16 us | a peer | **1.25** | 250 ms |"
    assert line in table
    assert "| Alone | ValueError: no / way | | none was timed | |  |" in table
    assert page.public_table("adbench").startswith("Not measured yet.")
    losses = page.losses_table()
    assert "| `gradbench` | Alone | blockjac at most 1 x jacfwd: ValueError: no / way |" in losses
    assert losses.count("\n| `") == 2
    assert "| `gradbench` | 1 | **2** |" in page.counts_table()


def test_tables_are_put_between_their_marks(results):
    text = "before\n<!-- counts -->\nold\n<!-- end -->\nafter\n"
    once = page.filled(text)
    assert once.startswith("before\n<!-- counts -->\n\n| page | claims met | missed |\n")
    assert once.endswith("\n<!-- end -->\nafter\n")
    assert "old" not in once
    assert page.filled(once) == once


def test_pictures_are_drawn_of_the_ratios(results, monkeypatch, tmp_path):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(page, "DOCS", tmp_path)
    (tmp_path / "pictures").mkdir()
    page.draw()
    (picture,) = (tmp_path / "pictures").iterdir()
    assert picture.name == "benchmarks-gradbench.svg"
    first = picture.read_bytes()
    page.draw()
    assert picture.read_bytes() == first
