"""`blockjac check`: the exit status, where functions and arguments come from, and clear errors."""

import subprocess
import sys

import numpy as np
import pytest

from blockjac.cli import main

MODULE = """
import jax.numpy as jnp
import numpy as np

NUMBER = 3


def loss(W, X):
    return jnp.mean(jnp.tanh(X @ W) ** 2)


def D_loss(W, X):
    a = np.tanh(X @ W)
    return X.T @ (2 * a * (1 - a**2)) / a.size


def half(W, X):
    return D_loss(W, X) / 2


def raising(W, X):
    raise KeyError("lost")


def untraceable(W, X):
    return 1.0 if W[0, 0] > 0 else 0.0


def softmax(x):
    return jnp.exp(x) / jnp.sum(jnp.exp(x))


def D_softmax(x):
    p = np.exp(x) / np.exp(x).sum()
    return np.diag(p) - np.outer(p, p)


def cubes(x):
    return jnp.sum(x**3)


def hessian_of_cubes(x):
    return np.diag(6 * x)


def scaled(x, c, n):
    return c * jnp.sum(x) ** n


def D_scaled(x, c, n):
    return c * n * np.sum(x) ** (n - 1) * np.ones_like(x)


def make_args():
    return np.arange(6.0).reshape(3, 2), np.ones((4, 3))


class Inner:
    loss = staticmethod(loss)
"""

SHAPES = ["--args", "f64[3,2]", "f64[4,3]"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "network.py").write_text(MODULE)
    (tmp_path / "broken.py").write_text("import nothing_of_this_name\n")
    (tmp_path / "failing.py").write_text("1 / 0\n")
    arrays = {"W": np.ones((3, 2)), "X": np.arange(12.0).reshape(4, 3) / 9}
    np.savez(tmp_path / "data.npz", **arrays)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name in ("network", "broken", "failing"):
        sys.modules.pop(name, None)


def run(capsys, *words):
    status = main(["check", *words])
    return status, *capsys.readouterr()


RIGHT = {
    "shapes": ["network:loss", "network:D_loss", *SHAPES],
    "a file": ["network.py:loss", "network.py:D_loss", *SHAPES],
    "single precision": ["network:loss", "network:D_loss", "--args", "f32[3,2]", "f32[4,3]"],
    "an attribute": ["network:Inner.loss", "network:D_loss", *SHAPES],
    "a seed": ["network:loss", "network:D_loss", *SHAPES, "--seed", "7"],
    "stored": ["network:loss", "network:D_loss", "--args", "data.npz"],
    "stored by name": ["network:loss", "network:D_loss", "--args", "data.npz:W", "data.npz:X"],
    "a function": ["network:loss", "network:D_loss", "--args", "network:make_args"],
    "numbers": ["network:scaled", "network:D_scaled", "--args", "f64[3]", "0.5", "3"],
    "a Jacobian": ["network:softmax", "network:D_softmax", "--args", "f64[4]"],
    "a Hessian": ["network:cubes", "network:hessian_of_cubes", "--args", "f64[4]", "--jacobian"],
}


@pytest.mark.parametrize("name", RIGHT)
def test_right_derivatives(name, folder, capsys):
    status, out, err = run(capsys, *RIGHT[name])
    assert (status, err) == (0, "")
    assert " is right: all " in out


def test_a_wrong_derivative_is_named(folder, capsys):
    status, out, _ = run(capsys, "network:loss", "network:half", *SHAPES)
    assert status == 1
    assert "the given gradient of loss is wrong" in out
    assert "constant factor: every entry is 0.5 times the exact one" in out


def test_a_tolerance_may_be_given(folder, capsys):
    words = ("network:loss", "network:half", *SHAPES)
    assert run(capsys, *words, "--rtol", "2")[0] == 0
    assert run(capsys, *words, "--atol", "1e-12")[0] == 1


def test_the_second_argument(folder, capsys):
    status, out, _ = run(capsys, "network:loss", "network:D_loss", *SHAPES, "--argnums", "1")
    assert status == 1
    assert "D_X loss" in out


BAD = {
    "no module": (["nowhere:f", "network:loss", *SHAPES], "there is no module 'nowhere'"),
    "no file": (["nowhere.py:f", "network:loss", *SHAPES], "there is no file nowhere.py"),
    "no name": (["network:los", "network:D_loss", *SHAPES], "network has no 'los'; it has loss"),
    "no colon": (["network", "network:D_loss", *SHAPES], "'network'; wanted module:name"),
    "no function": (["network:NUMBER", "network:D_loss", *SHAPES], "NUMBER is int, not a function"),
    "imports what is not there": (
        ["broken:f", "network:D_loss", *SHAPES],
        "broken does not import: ModuleNotFoundError: No module named 'nothing_of_this_name'",
    ),
    "fails": (["failing.py:f", "network:D_loss", *SHAPES], "ZeroDivisionError: division by zero"),
    "raises": (["network:loss", "network:raising", *SHAPES], "network:raising raised KeyError:"),
    "cannot be traced": (["network:untraceable", "network:loss", *SHAPES], "raised Tracer"),
    "shapes that do not fit": (
        ["network:loss", "network:D_loss", "--args", "f64[3,2]", "f64[4,4]"],
        "network:loss raised TypeError: dot_general",
    ),
    "too few arguments": (["network:loss", "network:D_loss", "--args", "f64[3,2]"], "'X'"),
    "argnums": (
        ["network:loss", "network:D_loss", *SHAPES, "--argnums", "5"],
        "requires at least 6 positional arguments",
    ),
    "an argument of no kind": (
        ["network:loss", "network:D_loss", "--args", "f65[3]"],
        "argument --args: 'f65[3]'; wanted a shape such as f64[400,30]",
    ),
    "a file that is not there": (
        ["network:loss", "network:D_loss", "--args", "no.npz"],
        "argument --args: cannot read no.npz: No such file or directory",
    ),
    "an array that is not there": (
        ["network:loss", "network:D_loss", "--args", "data.npz:V"],
        "data.npz has no array 'V'; it has W, X",
    ),
    "whole numbers": (
        ["network:cubes", "network:hessian_of_cubes", "--args", "i32[3]"],
        "requires real- or complex-valued inputs",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_used_is_said_in_one_line(name, folder, capsys):
    words, message = BAD[name]
    status, out, err = run(capsys, *words)
    assert (status, out) == (2, "")
    assert message in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["check"], "MODULE:F, MODULE:DF, --args"),
        (["check", "a:b", "c:d"], "the following arguments are required: --args"),
        (["check", "a:b", "c:d", "--args", "1", "--argnums", "-1"], "wanted a whole number"),
    ],
)
def test_words_that_are_missing(words, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(words)
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_as_a_program(folder):
    words = [
        sys.executable,
        "-m",
        "blockjac",
        "check",
        "network.py:loss",
        "network.py:half",
        *SHAPES,
    ]
    done = subprocess.run(words, capture_output=True, text=True, cwd=folder)
    assert done.returncode == 1, done.stderr
    assert "constant factor" in done.stdout


def test_help_imports_nothing_heavy():
    program = (
        "import sys\nfrom blockjac.cli import main\n"
        "try:\n    main(['check', '--help'])\nexcept SystemExit as end:\n    assert not end.code\n"
        "assert not {'jax', 'numpy'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--args ARG" in done.stdout
