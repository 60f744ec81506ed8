import json
import os
import pty
import re
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

import blockjac
from blockjac.cli import main
from blockjac.optimize import Backtracking, descent

LINE = re.compile(
    r"Step: (\d+), Avg Cross Entropy: (\d\.\d{6}), Gradient Norm: (\d\.\d{6}), "
    r"Training Accuracy: (\d+\.\d) percent"
)
PROGRAM = [sys.executable, "-m", "blockjac"]


@pytest.fixture(scope="module")
def lecture(tmp_path_factory):
    """The whole program, run once with all it can write, and the folder it wrote into."""
    folder = tmp_path_factory.mktemp("lecture")
    options = ["--plots", folder / "plots", "--json", folder / "out.json"]
    words = [*PROGRAM, "lecture", *options, "--line-search-steps", "0,10,99"]
    run = subprocess.run(words, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return run, folder


@pytest.mark.slow
def test_the_lines_are_those_of_the_lecture_and_nothing_else(lecture):
    *lines, last = lecture[0].stdout.splitlines()
    trace = Path(__file__).parents[1] / "optimize" / "wisconsin_trace.csv"
    rows = [",".join(LINE.fullmatch(line).groups()) for line in lines]
    assert rows == trace.read_text().splitlines()[1:]
    assert last == "Final test accuracy: 89.3 percent"
    assert "blockjac" not in lecture[0].stderr


def test_the_plots_are_there_and_no_other_file(lecture):
    names = {"loss", "gradient_norm", "training_accuracy", "step_size"}
    names |= {"line_search_000", "line_search_010", "line_search_099"}
    files = set((lecture[1] / "plots").iterdir())
    assert {file.name for file in files} == {f"{name}.png" for name in names}
    assert all(file.read_bytes().startswith(b"\x89PNG") for file in files)


def test_the_json_holds_the_numbers_of_the_lines(lecture):
    document = json.loads((lecture[1] / "out.json").read_text())
    assert document["options"] == {"steps": 100, "seed": 1234, "hidden": 20}
    assert document["status"] == "found"
    assert round(document["test_accuracy_percent"], 1) == 89.3
    assert [row["step"] for row in document["steps"]] == list(range(100))
    for row, line in zip(document["steps"], lecture[0].stdout.splitlines(), strict=False):
        _, loss, norm, accuracy = LINE.fullmatch(line).groups()
        assert f"{row['loss']:.6f}" == loss
        assert f"{row['gradient_norm']:.6f}" == norm
        assert f"{row['training_accuracy_percent']:.1f}" == accuracy
        assert row["step_size"] == 0.5 ** (row["trials"] - 1)


@pytest.mark.parametrize("words", [["--help"], ["lecture", "--help"], ["--version"]])
def test_help_and_version_import_nothing_heavy(words):
    program = (
        "import sys\n"
        "from blockjac.cli import main\n"
        "try:\n"
        f"    main({words!r})\n"
        "except SystemExit as end:\n"
        "    assert end.code == 0\n"
        "heavy = {'jax', 'numpy', 'sklearn', 'matplotlib', 'rich'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "blockjac" in run.stdout


def test_the_version_is_the_package_s(capsys):
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"blockjac {blockjac.__version__}\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["dance"], "invalid choice: 'dance'"),
        (["lecture", "--steps", "0"], "--steps: '0'; wanted a whole number from 1 on"),
        (["lecture", "--steps", "ten"], "--steps: 'ten'; wanted a whole number"),
        (["lecture", "--hidden", "-3"], "--hidden: '-3'; wanted a whole number from 1 on"),
        (["lecture", "--seed", "4294967296"], "'4294967296'; wanted .* from 0 to 4294967295"),
        (["lecture", "--line-search-steps", "3"], "--line-search-steps: needs --plots DIR"),
        (
            ["lecture", "--plots", "p", "--steps", "5", "--line-search-steps", "0,5"],
            "--line-search-steps: there is no step 5; wanted numbers from 0 to 4",
        ),
        (
            ["lecture", "--plots", "p", "--line-search-steps", "1,,2"],
            "--line-search-steps: ''; wanted a whole number from 0 on",
        ),
    ],
)
def test_words_that_make_no_sense_are_refused(words, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(words)
    found = capsys.readouterr()
    assert re.search(message, found.err)
    assert found.out == ""


@pytest.mark.parametrize("option", ["--plots", "--json"])
def test_what_cannot_be_written_is_said_before_the_training(option, tmp_path, capsys):
    (tmp_path / "file").write_text("old")
    assert main(["lecture", option, str(tmp_path / "file" / "inside")]) == 1
    found = capsys.readouterr()
    assert found.out == ""
    assert re.fullmatch(r"blockjac: cannot write in the folder .*; choose .*\n", found.err)
    assert (tmp_path / "file").read_text() == "old"


def test_a_json_file_that_is_a_folder_is_refused(tmp_path, capsys):
    assert main(["lecture", "--json", str(tmp_path)]) == 1
    assert "is a folder; wanted the name of a file to write" in capsys.readouterr().err


@pytest.mark.parametrize("module", ["sklearn", "matplotlib"])
def test_a_missing_extra_is_named_in_one_line(module, monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, module, None)
    assert main(["lecture", "--steps", "1", "--plots", str(tmp_path / "plots")]) == 1
    found = capsys.readouterr()
    assert found.out == ""
    assert re.fullmatch(r"blockjac: .* not installed; pip install 'blockjac\[app\]'\n", found.err)


@pytest.mark.slow
def test_other_options_make_another_training(tmp_path, capsys):
    words = ["lecture", "--steps", "3", "--seed", "7", "--hidden", "5"]
    words += ["--plots", str(tmp_path), "--plot-format", "svg", "--line-search-steps", "2"]
    assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert "0.655622" not in lines[0]
    assert (tmp_path / "line_search_002.svg").read_text().count("Line search of step 2")
    assert not (tmp_path / "line_search_000.svg").exists()


@pytest.mark.slow
def test_a_training_that_stops_says_where_and_still_ends_well(tmp_path, monkeypatch, capsys):
    impatient = partial(descent, line_search=Backtracking(max_trials=9))
    monkeypatch.setattr("blockjac.cli.lecture.descent", impatient)
    assert main(["lecture", "--plots", str(tmp_path)]) == 0
    found = capsys.readouterr()
    assert re.fullmatch(r"Final test accuracy: \d+\.\d percent\n", found.out)
    assert "blockjac: stopped at step 0, where no trial lowered the loss by enough" in found.err
    assert (tmp_path / "line_search_000.png").exists()
    assert not (tmp_path / "line_search_050.png").exists()


@pytest.mark.slow
def test_a_reader_that_goes_away_is_no_error():
    words = [*PROGRAM, "lecture", "--steps", "3000"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
        assert run.stdout.readline().startswith(b"Step: 0,")
        run.stdout.close()
        assert run.wait() == 141
        assert run.stderr.read() == b""


@pytest.mark.slow
def test_control_c_is_no_traceback_and_leaves_no_file(tmp_path):
    file = tmp_path / "out.json"
    words = [*PROGRAM, "lecture", "--steps", "1000000", "--json", file]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    # A shell that runs the tests in the background has them ignore the signal.
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(words, preexec_fn=heard, **pipes) as run:
        assert run.stdout.readline().startswith(b"Step: 0,")
        run.send_signal(signal.SIGINT)
        _, complaint = run.communicate()
    assert run.returncode == 130
    assert complaint == b"blockjac: interrupted\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("rich", [True, False])
def test_a_terminal_gets_the_same_lines_with_and_without_rich(rich):
    hide = "" if rich else "sys.modules['rich.progress'] = None; "
    program = f"import sys; {hide}from blockjac.cli import main; main(['lecture', '--steps', '30'])"
    controller, terminal = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80"}
    words = [sys.executable, "-c", program]
    with subprocess.Popen(words, stdout=terminal, stderr=terminal, env=environment) as run:
        os.close(terminal)
        shown = b""
        while True:
            try:
                shown += os.read(controller, 4096)
            except OSError:  # the other end is closed
                break
    os.close(controller)
    assert run.returncode == 0
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    assert [row[0] for row in LINE.findall(text)] == [str(step) for step in range(30)]
    assert ("compiling" in text) is rich
    assert re.search(r"Final test accuracy: \d+\.\d percent", text)


def test_the_reference_names_every_option_of_every_command():
    page = (Path(__file__).parents[2] / "docs/reference/command-line.md").read_text("utf-8")
    sections = dict(re.findall(r"## `blockjac (\w+).*?`\n(.*?)(?=\n## |\Z)", page, re.DOTALL))
    for command, section in sections.items():
        run = subprocess.run([*PROGRAM, command, "--help"], capture_output=True, text=True)
        options = set(re.findall(r"--[a-z-]+", run.stdout)) - {"--help"}
        missing = {option for option in options if f"`{option}" not in section}
        if command == "check":
            missing -= {"--args", "--argnums", "--seed"} if "`--args" in section else set()
        assert not missing, f"{command}: {sorted(missing)}"
    run = subprocess.run([*PROGRAM, "--help"], capture_output=True, text=True)
    assert set(re.findall(r"^    (\w+) ", run.stdout, re.MULTILINE)) == set(sections)
