"""The report of a training: one file of HTML with its pictures inside, which loads nothing."""

import base64
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib import resources
from pathlib import Path

from blockjac import __version__
from blockjac.cli.tables.console import doubt, summary
from blockjac.tabular.encoding import Encoder
from blockjac.tabular.training import Trained

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""What the page may load: nothing."""

DOUBTFUL = 25
"""Rows in the table of doubtful ones."""

KINDS = {".png": "image/png", ".svg": "image/svg+xml"}


def page(trained: Trained, pictures: Mapping[str, Path], out: Path) -> str:
    """The whole file.

    Args:
        trained: the training.
        pictures: the file of each picture by what it shows.
        out: the folder of the model, for the words that use it.
    """
    prepared = trained.prepared
    title = f"{prepared.target.name}: a network for {prepared.table.source}"
    figures = "".join(_figure(said, file) for said, file in pictures.items())
    style = resources.files("blockjac.cli.tables").joinpath("page.css").read_text("utf-8")
    parts = [
        _section("Result", _pairs(summary(trained))),
        _section("What to know of the table", _list(prepared.notes)) if prepared.notes else "",
        _section("Pictures", f'<div class="pictures">{figures}</div>'),
        _section("Rows to look at", _doubtful(trained)),
        _section("Columns", _columns(prepared.encoder)),
        _section("The network", _pairs(_settings(trained))),
        _section("How to use it", _use(trained, out)),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{style}</style>\n</head>\n"
        f"<body>\n<main>\n<h1>{escape(title)}</h1>\n{''.join(parts)}</main>\n</body>\n</html>\n"
    )


def _section(title: str, content: str) -> str:
    return f"<section>\n<h2>{escape(title)}</h2>\n{content}\n</section>\n"


def _figure(said: str, file: Path) -> str:
    """A picture with what it shows, its bytes in the page."""
    data = base64.b64encode(file.read_bytes()).decode()
    kind = KINDS[file.suffix]
    return (
        f'<figure><img alt="{escape(said)}" src="data:{kind};base64,{data}">'
        f"<figcaption>{escape(said)}</figcaption></figure>"
    )


def _pairs(pairs: Iterable[tuple[str, str]]) -> str:
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>'
        for name, value in pairs
    )
    return f'<div class="wide"><table>{rows}</table></div>'


def _table(names: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table with names above its columns."""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in names)
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows
    )
    inside = f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody>"
    return f'<div class="wide"><table>{inside}</table></div>'


def _list(lines: Iterable[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>"


def _doubtful(trained: Trained) -> str:
    """The rows that are predicted worst, with what they have and what is predicted."""
    rows = trained.model.estimator.suspicious_rows_[:DOUBTFUL]
    said = (
        "<p>Each row was predicted by a model that did not see it. These fit the others least: a "
        "wrong label, a slip of the pen, or a rare case.</p>"
    )
    target = trained.prepared.target.name
    return said + _table(
        ("row", f"its {target}", "predicted"), [doubt(trained, int(row)) for row in rows]
    )


def _columns(encoder: Encoder) -> str:
    """How each column is read."""
    rows = [(one.name, "number", f"{one.fill:.4g} where it is missing") for one in encoder.numbers]
    rows += [(one.name, "date", one.date_format) for one in encoder.dates]
    rows += [(one.name, "category", ", ".join(one.categories)) for one in encoder.categories]
    rows += [(name, "not used", why) for name, why in encoder.left_out.items()]
    return _table(("column", "read as", "values"), rows)


def _settings(trained: Trained) -> list[tuple[str, str]]:
    """What the fit chose."""
    estimator = trained.model.estimator
    strengths = ", ".join(f"{one:.3g}" for one in estimator.alpha_)
    chosen = [("network", trained.model.network), ("strength of the L2 penalty", strengths)]
    for one in trained.histories:
        chosen.append(
            (
                f"fit of {one.stage}",
                f"{len(one.losses)} {'epochs' if one.solver == 'adam' else 'steps'}, mean loss "
                f"{one.losses[-1]:.4g}",
            )
        )
    return [*chosen, ("program", f"blockjac {__version__}")]


def _use(trained: Trained, out: Path) -> str:
    """Words for the command line."""
    name = out.name or "."
    return (
        f"<p>Predict other rows of such a table:</p><pre>blockjac predict {escape(name)} DATA</pre>"
        f"<p>See what the model is:</p><pre>blockjac inspect {escape(name)}</pre>"
    )
