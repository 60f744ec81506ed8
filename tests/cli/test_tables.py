import csv
import io
import json
import os
import pty
import random
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine
from sklearn.metrics import accuracy_score, confusion_matrix

from blockjac.cli import main
from blockjac.cli.tables import train
from blockjac.errors import OutputPathError
from blockjac.estimators import checkpoints
from blockjac.tabular.model import TableModel

PROGRAM = [sys.executable, "-m", "blockjac"]
KINDS = ["train", "--target", "kind", "--drop", "score"]


def messy(seed=0, rows=90):
    """A table as people have them: blanks, text, dates, a constant, a name, a target of words."""
    generator = np.random.default_rng(seed)
    size = generator.normal(50, 10, rows).round(1)
    color = generator.choice(["red", "green", "blue"], rows)
    days = pd.to_datetime("2021-01-01") + pd.to_timedelta(generator.integers(0, 900, rows), "D")
    score = (size - 50) / 10 + (color == "red") + generator.normal(0, 0.3, rows)
    frame = pd.DataFrame(
        {
            "name": [f"Nr. {number}, {chr(97 + number % 26)}" for number in range(rows)],
            "size (mm)": size,
            "color": color,
            "day": days.strftime("%d.%m.%Y"),
            "country": "Norway",
            "kind": np.where(score > 0.3, "large", "small"),
            "score": score.round(3),
        }
    )
    for column in ("size (mm)", "color"):
        frame.loc[generator.random(rows) < 0.08, column] = None
    return frame


def files_of(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with a table and two trainings on it, of words and of numbers."""
    folder = tmp_path_factory.mktemp("tables")
    messy().to_csv(folder / "table.csv", index=False, na_rep="NA")
    table = str(folder / "table.csv")
    assert main([*KINDS, table, "--out", str(folder / "kinds")]) == 0
    assert main(["train", table, "--out", str(folder / "scores"), "--drop", "kind"]) == 0
    return folder


@pytest.mark.slow
def test_all_is_written(home):
    wanted = {"metrics.jsonl", "model.npz", "predictions.csv", "report.html"}
    plots = {"loss", "step_sizes", "line_search", "calibration", "suspicious_rows"}
    for name, more in (("kinds", "confusion"), ("scores", "predicted")):
        pictures = {f"plots/{one}.png" for one in {*plots, more}}
        files = files_of(home / name)
        assert set(files) == wanted | pictures
        assert all(files[one].startswith(b"\x89PNG") for one in pictures)


def test_the_report_holds_all_and_loads_nothing(home):
    for name in ("kinds", "scores"):
        page = (home / name / "report.html").read_text()
        assert page.count("data:image/png;base64,") == 6
        assert not re.search(r"https?://|<script|<link|src=\"(?!data:)", page)
        assert "column &#x27;country&#x27; is not used: it is &#x27;Norway&#x27;" in page


def test_the_scores_are_those_of_the_predictions(home):
    frame = pd.read_csv(home / "kinds" / "predictions.csv")
    lines = [json.loads(line) for line in (home / "kinds" / "metrics.jsonl").open()]
    found = next(line for line in lines if line["stage"] == "left out")
    assert found["accuracy"] == accuracy_score(frame["kind"], frame["predicted"])
    assert found["rows"] == len(frame) == 90
    assert list(frame["row"]) == [f"line {number}" for number in range(2, 92)]
    chances = frame[["probability of large", "probability of small"]]
    assert np.allclose(chances.sum(axis=1), 1, atol=1e-5)
    assert found["accuracy"] > 0.8


def test_steps_are_numbered_and_finite(home):
    for name in ("kinds", "scores"):
        lines = [json.loads(line) for line in (home / name / "metrics.jsonl").open()]
        steps = [line for line in lines if line["stage"] == "rows to learn from"]
        assert [line["step"] for line in steps] == list(range(1, len(steps) + 1))
        assert all(np.isfinite([line["loss"], line["step_norm"]]).all() for line in steps)


def test_predictions_are_those_of_the_model(home, capsys):
    fresh = messy(seed=1, rows=20).drop(columns=["kind", "score"])
    fresh.to_csv(home / "fresh.csv", index=False)
    assert main(["predict", str(home / "kinds"), str(home / "fresh.csv")]) == 0
    printed = pd.read_csv(io.StringIO(capsys.readouterr().out))
    true = messy(seed=1, rows=20)
    assert list(printed["line"]) == list(range(2, 22))
    assert accuracy_score(true["kind"], printed["kind"]) >= 0.75
    out = home / "predicted.csv"
    words = ["predict", str(home / "scores" / "model.npz"), str(home / "fresh.csv")]
    assert main([*words, "--interval", "0.8", "--out", str(out)]) == 0
    columns = pd.read_csv(out)
    assert list(columns)[-2:] == ["lower end, 80%", "upper end, 80%"]
    inside = columns["lower end, 80%"].le(true["score"]) & columns["upper end, 80%"].ge(
        true["score"]
    )
    assert 10 <= inside.sum() <= 20
    assert np.corrcoef(columns["score"], true["score"])[0, 1] > 0.8


def test_models_say_what_they_are(home, capsys):
    assert main(["inspect", str(home / "scores")]) == 0
    text = capsys.readouterr().out
    assert "target: score" in text
    assert "day: %d.%m.%Y" in text
    assert main(["inspect", str(home / "kinds"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["classes"] == ["large", "small"]
    assert said["trained on"].startswith("90 rows of ")
    assert said["not used"]["country"] == "it is 'Norway' in all rows"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda frame: frame.drop(columns="color"), "lacks columns that the model needs: 'color'"),
        (lambda frame: frame.assign(**{"size (mm)": "big"}), "'size .mm.' holds 'big' in line 2"),
        (lambda frame: frame.assign(day="soon"), "'day' of .* something other than dates like"),
        (lambda frame: frame.assign(**{"size (mm)": "inf"}), "is infinite in line 2"),
    ],
)
def test_other_tables_are_refused_at_prediction(home, change, message, capsys, tmp_path):
    change(messy(seed=2, rows=12)).to_csv(tmp_path / "other.csv", index=False)
    out = tmp_path / "out.csv"
    words = ["predict", str(home / "kinds"), str(tmp_path / "other.csv"), "--out", str(out)]
    assert main(words) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not out.exists()


def test_new_categories_are_named_at_prediction(home, capsys, tmp_path):
    frame = messy(seed=2, rows=12).assign(color="violet")
    frame.to_csv(tmp_path / "other.csv", index=False)
    assert main(["predict", str(home / "kinds"), str(tmp_path / "other.csv")]) == 0
    assert "column 'color' has new categories, taken as none: 'violet'" in capsys.readouterr().err


BAD = {
    "a missing target": (lambda f: f, ["--target", "Kind"], "has no column 'Kind'.*'kind'"),
    "no values": (lambda f: f.assign(kind=None), ["--target", "kind"], "'kind' of .* no values"),
    "one class": (lambda f: f.assign(kind="x"), ["--target", "kind"], "holds one class, x"),
    "text": (lambda f: f, ["--target", "kind", "--task", "regression"], "holds text, '(la|sm)"),
    "infinite": (lambda f: f.assign(score=["inf", *f.score[1:]]), [], "infinite in line 2"),
    "too few rows": (lambda f: f[:5], ["--target", "kind"], "5 rows with a target"),
    "many folds": (lambda f: f, ["--target", "kind", "--folds", "60"], "60 folds need more rows"),
    "nothing else": (lambda f: f[["country", "kind"]], ["--target", "kind"], "can be learned from"),
    "nothing to drop": (lambda f: f, ["--drop", "age"], "has no columns 'age' to drop"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_cannot_be_learned_is_refused(kind, tmp_path, capsys):
    change, words, message = BAD[kind]
    change(messy()).to_csv(tmp_path / "table.csv", index=False)
    out = tmp_path / "out"
    assert main(["train", str(tmp_path / "table.csv"), "--out", str(out), *words]) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not out.exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train"], "required: DATA"),
        (["train", "wine", "--test", "1"], "'1'; wanted a number from 0 up to"),
        (["train", "wine", "--test", "0.1", "--folds", "3"], "--folds: not allowed with --test"),
        (["train", "wine", "--hidden", "4,x"], "'4,x'; wanted auto, none, or nodes"),
        (["train", "wine", "--resume"], "--resume: needs --out DIR"),
        (["train", "wine", "--resume", "--overwrite", "--out", "a"], "not allowed with --resume"),
        (["train", "wine", "--checkpoint-every", "-1"], "wanted seconds"),
        (["predict", "a", "b", "--interval", "0"], "'0'; wanted a number between 0 and 1"),
    ],
)
def test_words_that_make_no_sense(words, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(words)
    assert re.search(message, capsys.readouterr().err)


def test_models_that_are_not_there_or_damaged(home, tmp_path, capsys):
    assert main(["inspect", str(tmp_path)]) == 2
    assert "holds no model; wanted a file or folder of blockjac train" in capsys.readouterr().err
    (tmp_path / "checkpoint.npz").write_bytes(b"")
    assert main(["inspect", str(tmp_path)]) == 2
    assert "was interrupted; `blockjac train ... --resume` ends it" in capsys.readouterr().err
    content = (home / "kinds" / "model.npz").read_bytes()
    for size in (0, 100, len(content) // 2, len(content) - 5):
        (tmp_path / "model.npz").write_bytes(content[:size])
        assert main(["predict", str(tmp_path), "wine"]) == 2
        assert "is damaged or of another kind; wanted a file that" in capsys.readouterr().err


def test_a_model_is_not_replaced_by_accident(home, capsys):
    before = files_of(home / "kinds")
    assert main(["train", str(home / "table.csv"), "--out", str(home / "kinds")]) == 2
    assert "holds a trained model; choose another --out, or --overwrite" in capsys.readouterr().err
    words = [*KINDS, str(home / "table.csv"), "--out", str(home / "kinds")]
    assert main([*words, "--resume"]) == 0
    assert "is complete; --overwrite begins anew" in capsys.readouterr().out
    assert files_of(home / "kinds") == before


def test_a_folder_that_cannot_be_written(home, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["train", str(home / "table.csv"), "--out", str(tmp_path / "file" / "a")]) == 1
    assert "cannot write in the folder" in capsys.readouterr().err


def started(words, **more):
    return subprocess.Popen(
        [*PROGRAM, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more
    )


def words_of(home, out):
    table = str(home / "table.csv")
    return [*KINDS, table, "--out", str(out), "--checkpoint-every", "0"]


def killed_and_resumed(words, out, moments):
    """Kill a training at some moments, in turn, and let it end at last; how many kills hit it."""
    kills = 0
    for moment in [*moments, None]:
        process = started([*words, *(["--resume"] if out.exists() else [])])
        try:
            _, errors = process.communicate(timeout=moment)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            kills += 1
        else:
            assert process.returncode == 0, errors
    return kills


@pytest.fixture(scope="module")
def seconds(home, tmp_path_factory):
    """How long a training takes as a program of its own."""
    began = time.monotonic()
    out = tmp_path_factory.mktemp("timed") / "kinds"
    assert started(words_of(home, out)).wait() == 0
    assert files_of(out) == files_of(home / "kinds")
    return time.monotonic() - began


@pytest.mark.slow
def test_a_killed_training_ends_as_if_it_had_not_been(home, seconds, tmp_path):
    generator = random.Random(0)
    # the first while every machine still trains, however busy it was when it was timed
    moments = [0.3 * seconds, *(generator.uniform(0.2, 0.9) * seconds for _ in range(3))]
    assert killed_and_resumed(words_of(home, tmp_path / "kinds"), tmp_path / "kinds", moments) > 0
    assert files_of(tmp_path / "kinds") == files_of(home / "kinds")


@pytest.mark.thorough
def test_two_hundred_kills(home, seconds, tmp_path):
    generator, kills, number = random.Random(1), 0, 0
    while kills < 200:
        out = tmp_path / str(number) / "kinds"  # the report says the folder's name
        out.parent.mkdir()
        moments = [generator.uniform(0, 1.1) * seconds for _ in range(4)]
        kills += killed_and_resumed(words_of(home, out), out, moments)
        assert files_of(out) == files_of(home / "kinds")
        number += 1


@pytest.mark.slow
def test_ctrl_c_ends_the_step_and_says_how_to_go_on(home, tmp_path):
    out = tmp_path / "kinds"
    process = started(words_of(home, out))
    while not (out / "checkpoint.npz").exists():
        time.sleep(0.02)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 130, errors
    assert f"the same words with --resume go on from '{out}'" in errors
    assert "Traceback" not in errors
    assert main(words_of(home, out)) == 2
    assert main([*words_of(home, out), "--seed", "5", "--resume"]) == 2
    assert main([*words_of(home, out), "--resume"]) == 0
    assert files_of(out) == files_of(home / "kinds")


def test_another_table_is_not_resumed(home, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    table = tmp_path / "table.csv"
    words = ["train", str(table), "--target", "kind", "--out", str(out)]
    messy(seed=3).to_csv(table, index=False)

    def die(*_):
        raise SystemExit

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(checkpoints.States, "take", die)
        with pytest.raises(SystemExit):
            main(words)
    messy(seed=4).to_csv(table, index=False)
    assert main([*words, "--resume"]) == 2
    assert "had other contents of the table; --resume wants" in capsys.readouterr().err
    assert main(words) == 2
    assert "was interrupted; --resume goes on with it" in capsys.readouterr().err


@pytest.mark.slow
def test_a_full_disk_loses_nothing_that_was_saved(home, tmp_path, capsys, monkeypatch):
    out = tmp_path / "kinds"

    def full(file, content):
        raise OutputPathError(f"cannot write '{file}': No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(train, "write_whole", full)
        assert main(words_of(home, out)) == 1
    assert "No space left on device" in capsys.readouterr().err
    assert set(files_of(out)) == {"checkpoint.npz"}
    assert main([*words_of(home, out), "--resume"]) == 0
    assert files_of(out) == files_of(home / "kinds")


@pytest.mark.slow
@pytest.mark.parametrize("load", [load_wine, load_breast_cancer])
def test_packaged_tables_are_predicted_well(load, tmp_path, capsys):
    name = load.__name__.removeprefix("load_")
    assert main(["train", name, "--folds", "5", "--out", str(tmp_path / "out")]) == 0
    assert "accuracy 9" in capsys.readouterr().out
    model = TableModel.load(tmp_path / "out" / "model.npz")
    data = load()
    chances = model.estimator.predict(data.data)
    names = np.asarray(data.target_names)[data.target]
    assert np.trace(confusion_matrix(names, chances)) >= 0.97 * len(names)


@pytest.mark.slow
def test_numbers_of_a_packaged_table_have_intervals(tmp_path, capsys):
    assert main(["train", "diabetes", "--test", "0.5", "--out", str(tmp_path / "out")]) == 0
    covered = re.search(r"cover ([\d.]+) %", capsys.readouterr().out)
    assert 88 <= float(covered[1]) <= 100
    assert main(["predict", str(tmp_path / "out"), "diabetes", "--interval", "0.5"]) == 0
    rows = list(csv.reader(io.StringIO(capsys.readouterr().out)))
    low, high = (np.array([float(row[column]) for row in rows[1:]]) for column in (3, 4))
    true = load_diabetes().target
    assert 0.4 < np.mean((low <= true) & (true <= high)) < 0.6


@pytest.mark.slow
def test_the_penguins_are_told_from_each_other_on_a_terminal(tmp_path):
    leader, follower = pty.openpty()
    words = ["train", "penguins", "--drop", "Comments", "--out", str(tmp_path / "out")]
    process = subprocess.Popen(
        [*PROGRAM, *words], stdout=follower, env={**os.environ, "TERM": "xterm"}
    )
    os.close(follower)
    shown = b""
    while True:
        try:
            part = os.read(leader, 4096)
        except OSError:
            break
        if not part:
            break
        shown += part
    assert process.wait() == 0
    text = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", shown.decode())
    assert re.search(r"nodes, loss [\d.e-]+, probability 0\.\d+, at most \d+ s left", text)
    assert re.search(r"rows set aside \(69\): +accuracy 9\d|accuracy 100", text)
    assert re.search(r"line \d+: ", text)
