"""What modules look like: their text, names, constants, trees, and that they are formatted."""

import subprocess
import sys
from collections import namedtuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from support.cases import CASES
from support.emitted import Job, differences, job, run, traced
from support.random_functions import random_function

import blockjac
from blockjac.errors import InvalidOptionError, SourceError
from blockjac.explanations.source import Parameter, TracedFunction, module_source
from blockjac.nn import affine, cross_entropy, logistic, softmax

random = np.random.default_rng(0)
X = jnp.asarray(random.normal(size=(9, 20)))
Y = jnp.asarray(np.eye(5)[random.integers(0, 5, 9)])
WEIGHTS = tuple(jnp.asarray(random.normal(size=size)) for size in ((20, 7), (7,), (7, 5), (5,)))


def loss(W1, b1, W2, b2):
    """The lecture's network."""
    return cross_entropy(Y, softmax(affine(logistic(affine(X, W1, b1)), W2, b2)))


def lecture(target):
    """The lecture's loss and gradient as a module."""
    gradient = blockjac.value_and_grad(loss, (0, 1, 2, 3))
    names = ["W1", "b1", "W2", "b2"]
    functions = [
        traced("loss", loss, WEIGHTS, names, ("X", "Y"))[0],
        traced("loss_and_gradient", gradient, WEIGHTS, names, ("X", "Y"))[0],
    ]
    return module_source(functions, target, "The lecture's network and its gradient.")


def body(source, name="f"):
    """The lines of a function below its docstring."""
    return source.split(f"def {name}(")[1].split('"""\n')[-1].rstrip()


def printed(function, *arguments, target="numpy", constant_names=()):
    """A function named f, printed."""
    names = [f"x{n}" for n in range(len(arguments))] if len(arguments) > 1 else ["x"]
    part, _ = traced("f", function, arguments, names, constant_names)
    return module_source([part], target, "Printed.")


LECTURE = """\
    sigmoid = special.expit(X @ W1 + b1)
    total = sigmoid @ W2 + b2
    exp = np.exp(total - np.max(total, axis=1, keepdims=True))
    sum_exp = np.sum(exp, axis=1, keepdims=True)
    ratio = exp / sum_exp
    mask = (Y == 0) & (ratio == 0)
    chosen = np.where(mask, 1, ratio)
    ratio_2 = -np.sum(Y * np.log(chosen)) / 9
    ratio_3 = 1 / sum_exp
    ratio_4 = Y * -0.1111111111111111 / chosen
    product = np.where(mask, 0, ratio_4) * np.where(mask, 0, -ratio * ratio_3)
    total_2 = np.sum(product, axis=1, keepdims=True) + np.where(mask, 0, ratio_3 * ratio_4)
    product_2 = total_2 * exp
    product_3 = product_2 @ W2.T * (sigmoid * (1 - sigmoid))
    total_3 = np.sum(product_3, axis=0)
    return ratio_2, (X.T @ product_3, total_3, sigmoid.T @ product_2, np.sum(product_2, axis=0))"""


def test_the_lectures_gradient_reads_well():
    assert body(lecture("numpy"), "loss_and_gradient") == LECTURE


@pytest.mark.slow
@pytest.mark.parametrize("target", ["numpy", "jax"])
def test_the_lectures_network_is_right(target):
    arguments, data = tuple(map(np.asarray, WEIGHTS)), {"X": np.asarray(X), "Y": np.asarray(Y)}
    calls = [(name, arguments, data) for name in ("loss", "loss_and_gradient")]
    (results,) = run([Job("lecture", lecture(target), calls, target == "jax")])
    wanted = [loss(*WEIGHTS), jax.value_and_grad(loss, (0, 1, 2, 3))(*WEIGHTS)]
    assert not differences(results, wanted)


def test_a_whole_module():
    source = printed(lambda x: jnp.sum(x**2 - 1, axis=1), jnp.ones((3, 2)))
    assert source == (
        '"""Printed."""\n\nimport numpy as np\n\n\ndef f(x):\n    """The f.\n\n    Args:\n'
        '        x: float64 of shape (3, 2).\n    """\n    return np.sum(x**2 - 1, axis=1)\n'
    )


def test_a_loop_reads_well():
    def states(h, A):
        def step(h, u):
            h = jnp.tanh(A @ h + u)
            return h, h

        return lax.scan(step, h, jnp.ones((6, 4)))

    source = printed(states, jnp.ones(4), jnp.ones((4, 4)))
    assert body(source) == (
        "    h = x0\n    stacked = np.empty((6, 4))\n    for t in range(6):\n"
        "        h = np.tanh(x1 @ h + 1)\n        stacked[t] = h\n    return h, stacked"
    )


def test_attention_reads_well():
    def attention(Q, K, V):
        return jax.nn.softmax(Q @ K.T / jnp.sqrt(8.0), axis=-1) @ V

    one = jnp.ones((5, 8))
    part, _ = traced("f", attention, (one, one, one), ["Q", "K", "V"])
    assert body(module_source([part], "numpy", "")) == (
        "    ratio = Q @ K.T / 2.8284271247461903\n"
        "    exp = np.exp(ratio - np.max(ratio, axis=1, keepdims=True))\n"
        "    return exp / np.sum(exp, axis=1, keepdims=True) @ V"
    )


SHORT = {
    "x @ x.T": lambda x: x @ x.T,
    "x.T @ x": lambda x: jnp.einsum("ni,nj->ij", x, x),
    "x[1:]": lambda x: x[1:],
    "x[0]": lambda x: x[0],
    "x[:, ::-1]": lambda x: x[:, ::-1],
    "1 - x**2": lambda x: 1 - x**2,
    "np.where(x > 0, x, 0)": lambda x: jnp.where(x > 0, x, 0.0),
    "x / np.sum(x, axis=1, keepdims=True)": lambda x: x / x.sum(1, keepdims=True),
    "x - np.sum(x, axis=1, keepdims=True) - np.sum(x, axis=0)": (
        lambda x: x - x.sum(1)[:, None] - x.sum(0)
    ),
    "x[:, :, None] * x[:, None, :]": lambda x: x[:, :, None] * x[:, None, :],
    'np.einsum("ij,ij->i", x, x)': lambda x: jnp.einsum("ij,ij->i", x, x),
    "(x + 1) * (x - 1)": lambda x: (x + 1) * (x - 1),
    "x - (x - 2)": lambda x: x - (x - 2),
    "-x**2": lambda x: -(x**2),
    "(-x) ** 3": lambda x: (-x) ** 3,
    "1 / (x / 2)": lambda x: 1 / (x / 2),
    "x.reshape(2, 3)": lambda x: x.reshape(2, 3),
    "x[[0, 2, 1]]": lambda x: x[jnp.array([0, 2, 1])],
    "np.concatenate([x, x], axis=1)": lambda x: jnp.concatenate([x, x], 1),
    "(x > 0) & (x < 2)": lambda x: (x > 0) & (x < 2),
    "np.eye(3) * x[:, :1]": lambda x: jnp.eye(3) * x[:, :1],
    "special.expit(x)": jax.nn.sigmoid,
    "np.maximum(x, 0)": jax.nn.relu,
    "x": lambda x: lax.optimization_barrier(x.T.T[None][0] * 1.0),
    "np.zeros((3, 2))": lambda x: jnp.zeros_like(x),
    "np.float64(0.30000000000000004)": lambda x: jnp.float64(0.1) + 0.2 + 0 * jnp.sum(x[:0]),
}


@pytest.mark.parametrize("text", [text for text in SHORT if "float64" not in text])
def test_short_expressions(text):
    assert body(printed(SHORT[text], jnp.ones((3, 2)))) == f"    return {text}"


def named(x, name):
    return checkpoint_name(x, f"blockjac:name={name}")


def test_tags_give_names_and_comments():
    def function(x):
        Z = named(x @ x.T, "Z2")
        Z = checkpoint_name(Z, "blockjac:comment=Z2 = X X^T")
        return named(jnp.exp(Z), "E") * Z

    assert body(printed(function, jnp.ones((3, 2)))) == (
        "    # Z2 = X X^T\n    Z2 = x @ x.T\n    E = np.exp(Z2)\n    return E * Z2"
    )


@pytest.mark.parametrize(
    ("name", "mended"),
    [
        ("lambda", "lambda_"),
        ("np", "np_"),
        ("sum", "sum_"),
        ("x", "x_2"),
        ("Z^{(1)}", "Z_1_"),
        (r"\phi_1", "_phi_1"),
        ("φ", "φ"),
        ("2nd", "x_2nd"),
        ("!!", "x_2"),
        ("a b", "a_b"),
    ],
)
def test_names_are_mended(name, mended):
    source = printed(lambda x: named(jnp.exp(x), name) * x, jnp.ones(3))
    assert f"    {mended} = np.exp(x)\n" in source


def test_equal_names_are_numbered():
    def function(x):
        return named(jnp.exp(x), "Z") * named(jnp.sin(x), "Z")

    assert body(printed(function, jnp.ones(3))) == (
        "    Z = np.exp(x)\n    Z_2 = np.sin(x)\n    return Z * Z_2"
    )


def test_a_long_comment_is_wrapped():
    def function(x):
        return checkpoint_name(jnp.exp(x), "blockjac:comment=" + "word " * 50) * 2

    lines = printed(function, jnp.ones(3)).splitlines()
    assert sum(line.startswith("    # word") for line in lines) == 3
    assert max(map(len, lines)) <= 100


Pair = namedtuple("Pair", ["first", "second"])


@pytest.mark.parametrize("target", ["numpy", "jax"])
def test_trees(target):
    def function(params, xs):
        out = params["W1"] @ xs[0] + params["layers"][0].first
        return {"out": out, 'a "b"': [out * 2, None]}, Pair(out, (out,))

    one = jnp.ones(3)
    params = {"W1": jnp.ones((3, 3)), "layers": [Pair(one, one)]}
    part, _ = traced("f", function, (params, (one, one)), ["params", "xs"])
    source = module_source([part], target, "")
    assert 'params["W1"] @ xs[0] + params["layers"][0].first' in source
    arguments = jax.tree.map(np.asarray, (params, (one, one)))
    plain = Plain = namedtuple("Pair", ["first", "second"])
    del plain, Plain
    module = {}
    exec(source, module)
    result = module["f"](*arguments)
    assert list(result[0]) == ['a "b"', "out"] or list(result[0]) == ["out", 'a "b"']
    assert type(result[1])._fields == ("first", "second")
    wanted = function(params, (one, one))
    for ours, theirs in zip(jax.tree.leaves(result), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(ours, theirs)


@jax.tree_util.register_pytree_node_class
class Own:
    def __init__(self, x):
        self.x = x

    def tree_flatten(self):
        return (self.x,), None

    @classmethod
    def tree_unflatten(cls, _, leaves):
        return cls(*leaves)


def test_a_class_of_the_user_is_refused():
    part, _ = traced("f", lambda own: own.x * 2, (Own(jnp.ones(2)),), ["own"])
    with pytest.raises(SourceError, match="parameter 'own' of 'f' holds a container"):
        module_source([part], "numpy")
    part, _ = traced("f", lambda x: Own(x), (jnp.ones(2),), ["x"])
    with pytest.raises(SourceError, match="the result of 'f' holds a Own"):
        module_source([part], "numpy")


def test_other_errors_say_what_to_do():
    one = jnp.ones(2)
    closed = jax.make_jaxpr(jnp.sin)(one)
    with pytest.raises(
        InvalidOptionError, match="target must be 'numpy' or 'jax', but is 'fortran'"
    ):
        module_source([], "fortran")
    with pytest.raises(SourceError, match="the parameters of 'f' have 2 leaves"):
        module_source([TracedFunction("f", closed, (Parameter("x", (one, one)),), "", 0)], "numpy")
    with pytest.raises(SourceError, match="the result of 'f' has 2 leaves"):
        module_source([TracedFunction("f", closed, (Parameter("x", one),), "", (0, 0))], "numpy")
    large = jnp.arange(20000.0) ** 0.5
    with pytest.raises(SourceError, match="captured an array of 20,000 numbers"):
        printed(lambda x: x * large, large)
    hidden = jax.pure_callback
    with pytest.raises(SourceError, match="the primitive 'pure_callback' cannot be written"):
        printed(lambda x: hidden(np.sin, x, x), one)


@pytest.mark.parametrize("target", ["numpy", "jax"])
def test_captured_arrays(target):
    large = jnp.asarray(random.normal(size=(6, 5)))
    mask = jnp.asarray(random.integers(0, 2, 90) > 0)
    order = jnp.asarray(random.permutation(90))

    def function(x):
        return x[order] * jnp.where(mask, 1, x) + jnp.sum(large) * jnp.array([2.0]), x[:5] @ large.T

    x = jnp.asarray(random.normal(size=90))
    emitted = job("f", target, {"f": function}, (x,))
    assert "TABLE_1 = " in emitted.source
    (results,) = run([emitted])
    assert not differences(results, [function(x)])


def test_a_named_array_is_a_parameter():
    source = printed(lambda x: x @ X, jnp.ones(9), constant_names=("X",))
    assert "def f(x, *, X):" in source
    assert "        X: float64 of shape (9, 20), captured.\n" in source


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, -0.0, 1e-300, 0.1, -2.5, 1 / 3])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("target", ["numpy", "jax"])
def test_numbers_are_exact(value, dtype, target):
    number = dtype(value)
    x = jnp.asarray([2.0, 0.0], dtype)
    source = printed(lambda x: (jnp.where(x > 1, number, x), lax.add(x, number)), x, target=target)
    module = {}
    exec(source, module)
    result = module["f"](np.asarray(x) if target == "numpy" else x)[0]
    assert result.dtype == dtype
    assert np.asarray(result)[0].tobytes() == number.tobytes()


def test_parameters_that_clash_are_renamed_and_told():
    closed = jax.make_jaxpr(lambda a, b: a + 2 * b)(1.0, 2.0)
    pair = (Parameter("f", 1.0), Parameter("sum", 1.0))
    source = module_source([TracedFunction("f", closed, pair, "Adds.", 0)], "numpy")
    assert "def f(f_2, sum_):" in source
    assert "        f_2: a float64.\n        sum_: a float64.\n" in source
    assert body(source) == "    return f_2 + 2 * sum_"


def test_a_module_is_the_same_each_time():
    assert lecture("numpy") == lecture("numpy")


def ruff(*arguments):
    """What ruff says; empty if nothing."""
    command = [sys.executable, "-m", "ruff", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return "" if result.returncode == 0 else result.stdout + result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("target", ["numpy", "jax"])
def test_modules_are_formatted(target, tmp_path):
    sources = {"lecture": lecture(target)}
    for seed in range(12):
        function, x = random_function(seed)
        functions = {"function": function, "jacobian": blockjac.jacobian(function)}
        sources[f"seed_{seed}"] = job(f"{seed}", target, functions, (x,)).source
    for number, (name, case) in enumerate(CASES.items()):
        if number % 4 == 0:
            functions = {"function": case.function}
            sources[f"case_{number}"] = job(name, target, functions, case.values()).source
    for name, source in sources.items():
        tmp_path.joinpath(f"{name}.py").write_text(source, encoding="utf-8")
    options = ("--isolated", "--no-cache", "--line-length", "100")
    assert not ruff("format", *options, "--diff", str(tmp_path))
    assert not ruff("check", *options, "--select", "F,E,W,I", str(tmp_path))
