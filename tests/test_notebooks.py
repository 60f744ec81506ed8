"""The notebooks: right numbers, a place on the site, and pages that hide no mistake."""

import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.docs_modules import load

ROOT = Path(__file__).resolve().parent.parent

execute, pages = load("notebook_pages.execute"), load("notebook_pages.page")
SOURCES = execute.sources()
every_notebook = pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)


@pytest.mark.slow
@every_notebook
def test_code_runs_and_its_assertions_hold(source, tmp_path):
    """The cells of a notebook are a script; the assertions compare with JAX, SciPy and theory."""
    environment = {
        key: value for key, value in os.environ.items() if key not in execute.AS_JAX_STARTS
    }
    done = subprocess.run(
        [sys.executable, str(source)],
        cwd=tmp_path,
        env=environment | {"MPLBACKEND": "agg"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr, done.stderr


@every_notebook
def test_numbers_are_asserted(source):
    text = source.read_text(encoding="utf-8")
    assert len(re.findall(r"^ *(assert |np\.testing\.)", text, re.MULTILINE)) >= 4


@every_notebook
def test_pictures_are_described(source):
    cells = re.split(r"^# %%", source.read_text(encoding="utf-8"), flags=re.MULTILINE)
    pictures = [cell for cell in cells if re.search(r"plt\.subplots|\.plot\(\)|\.spy\(\)", cell)]
    assert len(pictures) >= 3
    assert all(cell.startswith(' alt="') for cell in pictures)


def test_navigation_has_every_notebook():
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    names = re.findall(r"^ +- .*: notebooks/([\w-]+)\.md$", navigation, re.MULTILINE)
    assert sorted(names) == [source.stem for source in SOURCES]
    assert navigation.index("- Tutorial:") < navigation.index("- Notebooks:")


def test_no_outputs_are_committed():
    listed = subprocess.run(
        ["git", "ls-files", "*.ipynb"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert listed.stdout == ""


# Pages


def markdown(text):
    return {"cell_type": "markdown", "source": text, "metadata": {}}


def code(text, *outputs, **metadata):
    return {"cell_type": "code", "source": text, "outputs": outputs, "metadata": metadata}


def data(**kinds):
    kinds = {kind.replace("_", "/"): text for kind, text in kinds.items()}
    return {"output_type": "display_data", "data": kinds}


def stream(text):
    return {"output_type": "stream", "name": "stdout", "text": text}


def page(*cells):
    return pages.page({"cells": [markdown("# Title\n\nWhy."), *cells]}, "name")


def test_page_has_title_then_download_then_text_code_and_what_was_printed():
    text = page(markdown("Now."), code("print(1)\nprint(2)", stream("1\n"), stream("2\n")))
    title, note, why, now, shown, printed = text.rstrip().split("\n\n")
    assert (title, why, now) == ("# Title", "Why.", "Now.")
    assert "(name.ipynb)" in note
    assert shown == "```python\nprint(1)\nprint(2)\n```"
    assert printed == "```text\n1\n2\n```"


def test_page_shows_html_rather_than_text_and_in_order():
    output = data(text_html="<p>a block</p>", text_plain="Block(...)")
    text = page(code("x", stream("before"), output, stream("after")))
    assert "Block(...)" not in text
    assert text.index("before") < text.index("<p>a block</p>") < text.index("after")


SVG = (
    '<?xml version="1.0"?>\n<!DOCTYPE svg>\n'
    '<svg width="432pt" height="216pt" viewBox="0 0 432 216">'
    '<metadata>https://matplotlib.org/</metadata><defs><path id="a"/></defs>'
    '<use href="#a" style="fill: #ffffff"/><g clip-path="url(#a)" style="stroke: #000000"/></svg>'
)


def test_picture_is_described_fits_and_has_the_colors_of_the_page():
    text = page(code("x", data(**{"image_svg+xml": SVG, "image_png": "x"}), alt='a "line"'))
    assert 'role="img" aria-label="a &quot;line&quot;"' in text
    assert "matplotlib.org" not in text
    assert "xml version" not in text
    assert '<svg style="width: 432pt" viewBox="0 0 432 216">' in text
    assert text.count("name-2-0-a") == 3
    assert "fill: var(--md-default-bg-color)" in text
    assert "stroke: currentColor" in text


def test_picture_without_description_is_refused():
    with pytest.raises(ValueError, match="name-2-0: a picture needs a description"):
        page(code("x", data(**{"image_svg+xml": SVG})))


def test_notebook_without_title_is_refused():
    with pytest.raises(ValueError, match="the first cell should be text that begins with a title"):
        pages.page({"cells": [code("x")]}, "name")


def test_code_with_fences_stays_code():
    assert pages.fenced("```\na\n```", "text") == "````text\n```\na\n```\n````"


# Execution


@pytest.fixture
def notebook(tmp_path):
    """Writes a notebook, and executes it with results kept in a folder of the test."""
    for name in ("nbclient", "jupytext", "ipykernel"):
        pytest.importorskip(name)

    def run(text):
        source = tmp_path / "small.py"
        source.write_text(f"# %% [markdown]\n# # Small\n\n# %%\n{text}\n", encoding="utf-8")
        return execute.executed(source, tmp_path / "kept")

    return run


@pytest.fixture
def failure(notebook, tmp_path):
    """Executes a notebook that fails, and gives the message; nothing of it is kept."""

    def message(text):
        with pytest.raises(execute.NotebookError) as caught:
            notebook(text)
        assert not (tmp_path / "kept").exists()
        return str(caught.value)

    return message


@pytest.mark.slow
def test_failing_cell_is_shown_with_its_message(failure):
    message = failure("x = 1\n\n# %%\nassert x == 2, 'x is one'")
    assert message.startswith("small.py: cell 3 failed with AssertionError: x is one\n")
    assert "\nassert x == 2, 'x is one'\n" in message
    assert "\x1b" not in message


@pytest.mark.slow
def test_outputs_name_no_temporary_file(notebook):
    result = notebook("print((lambda: 1).__code__.co_filename)\n(lambda: 1).__code__.co_filename")
    printed, value = result.cells[1].outputs
    assert printed.text == "cell\n"
    assert value.data["text/plain"] == "'cell'"


@pytest.mark.slow
def test_cell_whose_process_ends_is_named(failure):
    message = failure("x = 1\n\n# %%\nimport os\nos._exit(1)\n\n# %%\nx = 2")
    assert message.startswith("small.py: nothing came back from cell 3: DeadKernelError: ")
    assert message.endswith("import os\nos._exit(1)")


@pytest.mark.slow
def test_results_are_kept_until_the_source_changes(notebook, tmp_path, monkeypatch):
    first = notebook("import time\nprint(time.time_ns())")
    assert notebook("import time\nprint(time.time_ns())") == first
    second = notebook("import time\nprint(1)\nprint(time.time_ns())")
    assert second.cells[1].outputs[0].text.startswith("1\n")
    assert len(list((tmp_path / "kept").iterdir())) == 1


@pytest.mark.slow
def test_last_line_that_gives_an_object_of_matplotlib_shows_the_picture_alone(notebook):
    result = notebook("import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.title('T')")
    (output,) = result.cells[1].outputs
    assert {"image/png", "image/svg+xml"} <= set(output.data)


def test_state_follows_the_library_its_packages_and_the_settings_of_jax(tmp_path, monkeypatch):
    library, source = tmp_path / "blockjac", tmp_path / "small.py"
    library.mkdir()
    module = library / "__init__.py"
    module.write_text("x = 1")
    source.write_text("# %%\n1")
    monkeypatch.setattr(execute.util, "find_spec", lambda name: SimpleNamespace(origin=str(module)))
    packages = [SimpleNamespace(name="jax", version="1")]
    monkeypatch.setattr(execute.metadata, "distributions", lambda: packages)
    states = [execute.state(source)]
    assert execute.state(source) == states[0]
    module.write_text("x = 2")
    states.append(execute.state(source))
    packages[0].version = "2"
    states.append(execute.state(source))
    monkeypatch.setenv("JAX_DEBUG_NANS", "1")
    states.append(execute.state(source))
    source.write_text("# %%\n2")
    states.append(execute.state(source))
    assert len(set(states)) == 5
