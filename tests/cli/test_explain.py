"""`blockjac explain` and `blockjac lecture --report`: formats, arguments, errors, exit statuses."""

import re
import subprocess
import sys
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest

from blockjac.cli import main

MODULE = """
import jax.numpy as jnp

def loss(W, x):
    return jnp.sum(jnp.tanh(x @ W) ** 2)

def fails(x):
    raise ValueError("not today")

def make_args():
    return jnp.ones((3, 2)), jnp.ones((4, 3))

CONSTANT = 3
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop("mine", None)
    yield tmp_path
    sys.modules.pop("mine", None)


ARGS = ["--args", "f64[3,2]", "f64[4,3]"]


def test_the_explanation_is_printed(folder, capsys):
    assert main(["explain", "mine:loss", *ARGS, "--argnums", "0,1"]) == 0
    out = capsys.readouterr().out
    assert "D_W loss = D_v₃ sum ⋆ D_v₂ power ⋆ D_v₁ tanh ⋆ D_W dot" in out
    assert "every formula was evaluated, and gives the Jacobian" in out


@pytest.mark.parametrize(
    ("option", "pattern"),
    [
        ("--text", r"\AThe function|\Aloss and its Jacobian by W\n"),
        ("--latex", r"\A\\documentclass"),
        ("--markdown", r"\A# loss and its Jacobian by W\n"),
        ("--dot", r"\Adigraph"),
        ("--svg", r"\A<svg"),
    ],
)
def test_every_format_is_printed(option, pattern, folder, capsys):
    assert main(["explain", "mine.py:loss", *ARGS, option]) == 0
    out = capsys.readouterr().out
    assert re.search(pattern, out)
    if option == "--svg":
        ElementTree.fromstring(out)


@pytest.mark.slow
def test_a_page_is_written_whole(folder, capsys):
    assert main(["explain", "mine:loss", *ARGS, "--html", "out.html"]) == 0
    assert capsys.readouterr().out == "out.html: loss explained\n"
    text = (folder / "out.html").read_text()
    assert text.startswith("<!doctype html>")
    assert text.endswith("</html>\n")


def test_arguments_come_from_functions_and_files(folder, capsys):
    np.savez(folder / "data.npz", W=np.ones((3, 2)), x=np.ones((4, 3)))
    outputs = []
    for words in (["mine:make_args"], ["data.npz"], ["data.npz:W", "data.npz:x"]):
        assert main(["explain", "mine:loss", "--args", *words]) == 0
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1] == outputs[2]


def test_the_seed_draws_the_arguments(folder, capsys):
    pages = []
    for seed in ("1", "1", "2"):
        words = ["explain", "mine:loss", *ARGS, "--seed", seed, "--html", "page.html"]
        assert main(words) == 0
        pages.append((folder / "page.html").read_text())
    assert pages[0] == pages[1]
    assert pages[0] != pages[2]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["mine:nothing", *ARGS], "mine has no 'nothing'; it has loss, fails, make_args"),
        (["nowhere:loss", *ARGS], "there is no module 'nowhere' here or among those installed"),
        (["missing.py:loss", *ARGS], "there is no file missing.py"),
        (["loss", *ARGS], "'loss'; wanted module:name, or path/to/file.py:name"),
        (["mine:CONSTANT", *ARGS], "mine:CONSTANT is int, not a function"),
        (["mine:loss", "--args", "f64(3)"], "--args: 'f64\\(3\\)'; wanted a shape such as"),
        (["mine:loss", "--args", "no.npz"], "--args: cannot read no.npz: No such file"),
        (
            ["mine:fails", "--args", "1.0"],
            "mine:fails raised ValueError: not today, at .*mine.py:8",
        ),
        (["mine:loss", "--args", "f64[3,2]", "f64[5,7]"], "mine:loss raised TypeError: dot_gen"),
        (["mine:loss", "--args", "i32[3,2]", "f64[4,3]"], "explain requires real"),
        (["mine:loss", *ARGS, "--argnums", "2"], "argnums"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_line(words, message, folder, capsys):
    assert main(["explain", *words]) == 2
    found = capsys.readouterr()
    assert found.out == ""
    assert re.match(f"blockjac: .*{message}", found.err)
    assert found.err.count("\n") == 1


def test_a_page_that_cannot_be_written_is_said_before_anything_is_computed(folder, capsys):
    assert main(["explain", "mine:fails", "--args", "1.0", "--html", str(folder)]) == 1
    assert "is a folder; wanted the name of a file to write" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["explain", "mine:loss"], "the following arguments are required: --args"),
        (["explain", "mine:loss", *ARGS, "--argnums", "x"], "--argnums: 'x'; wanted a whole"),
        (["explain", "mine:loss", *ARGS, "--dot", "--svg"], "not allowed with argument --dot"),
    ],
)
def test_words_that_make_no_sense_are_refused(words, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(words)
    assert message in capsys.readouterr().err


def test_help_imports_nothing_heavy():
    program = (
        "import sys\nfrom blockjac.cli import main\n"
        "try:\n    main(['explain', '--help'])\nexcept SystemExit as end:\n"
        "    assert end.code == 0\nassert not {'jax', 'numpy'} & set(sys.modules)\n"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "--html FILE" in run.stdout


@pytest.mark.slow
def test_the_report_of_the_lecture_explains_the_trained_network(tmp_path, capsys):
    file = tmp_path / "report.html"
    words = ["lecture", "--steps", "4", "--hidden", "3", "--report", str(file)]
    assert main([*words, "--line-search-steps", "1,3"]) == 0
    capsys.readouterr()
    text = file.read_text()
    assert len(text.encode()) < 1_000_000
    images = []

    class Images(HTMLParser):
        def handle_starttag(self, tag, attrs):
            if tag == "img":
                images.append(dict(attrs))

    Images().feed(text)
    assert [image["alt"] for image in images] == [
        "The loss after each step",
        "The norm of the gradient before each step",
        "The rows that are put into their class, in percent",
        "The step that the line search accepted",
        "The line search of step 1",
        "The line search of step 3",
    ]
    assert all(image["src"].startswith("data:image/png;base64,iVBOR") for image in images)
    assert "The stages as block matrices" in text
    assert "4 steps of descent brought the mean cross-entropy" in text


def test_a_report_that_cannot_be_written_is_said_before_the_training(tmp_path, capsys):
    assert main(["lecture", "--report", str(tmp_path)]) == 1
    found = capsys.readouterr()
    assert found.out == ""
    assert "is a folder" in found.err
