"""A file is read in one sitting: none of the library is longer than 300 lines, but those listed."""

import statistics
from pathlib import Path

import blockjac

SOURCE = Path(blockjac.__file__).parent

LONGEST = 300
MEDIAN = 150

LONGER = {"graph/primitives.py": "a table"}
"""Files that are longer, each with the reason; the list only gets shorter."""


def lengths() -> dict[str, int]:
    """The lines of each file, by its path below the package."""
    return {
        path.relative_to(SOURCE).as_posix(): len(path.read_text(encoding="utf-8").splitlines())
        for path in sorted(SOURCE.rglob("*.py"))
    }


def test_no_file_is_too_long():
    long = {file: count for file, count in lengths().items() if count > LONGEST}
    unlisted = [f"{file} has {count} lines" for file, count in long.items() if file not in LONGER]
    assert not unlisted, "\n".join(unlisted)


def test_only_long_files_are_listed():
    counts = lengths()
    assert all(counts[file] > LONGEST for file in LONGER)


def test_the_median_file_is_short():
    assert statistics.median(lengths().values()) <= MEDIAN
