"""What an explanation says, in every form, and what it does with odd programs and names."""

import html.parser
import re
import shutil
import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.explained_programs import lecture, normal

import blockjac
from blockjac.errors import ArgumentError, DifferentiationTypeError, InvalidOptionError
from blockjac.explanations.names import Name, unique

NETWORK = normal(3, 4), normal(1, 4), normal(4, 2), normal(1, 2)


def explained_lecture():
    return blockjac.explain(lecture, (0, 1, 2, 3))(*NETWORK)


# The lecture's formulas


FACTORS = {
    "W_{1}": ["D_{Q} \\ell", "D_{Z_{2}} \\psi_{2}", "D_{X} \\phi_{2}", "D_{Z_{1}} \\psi_{1}"],
    "b_{1}": ["D_{Q} \\ell", "D_{Z_{2}} \\psi_{2}", "D_{X} \\phi_{2}", "D_{Z_{1}} \\psi_{1}"],
    "W_{2}": ["D_{Q} \\ell", "D_{Z_{2}} \\psi_{2}"],
    "b_{2}": ["D_{Q} \\ell", "D_{Z_{2}} \\psi_{2}"],
}
"""Every factor of the lecture's four gradients but the last, output side first."""


def test_latex_of_the_gradients_is_the_lectures_factor_by_factor():
    equations = re.findall(r"\\\[\n(.*?)\n\\\]", explained_lecture().chain_rule.latex(), re.DOTALL)
    for (variable, factors), equation in zip(FACTORS.items(), equations, strict=True):
        left, right = equation.split(" = ")
        assert left == f"D_{{{variable}}} \\mathrm{{lecture}}"
        layer = "\\phi_{1}" if "1" in variable else "\\phi_{2}"
        assert right.split(" \\star ") == [*factors, f"D_{{{variable}}} {layer}"]


def test_text_has_spaces_steps_formulas_order_and_verdict():
    text = explained_lecture().text(width=100)
    for line in (
        "  W₁ ∈ T_(3,4)",
        "  DATA ∈ T_(5,3)    captured",
        "  (D_Z₂ ψ₂)[l,k,l',k'] = δ[l,l'] δ[k,k'] Q[l,k] - δ[l,l'] Q[l,k] Q[l,k']    100 entries",
        "  (D_Z₁ ψ₁)[l,j,l',j'] = δ[l,l'] δ[j,j'] X[l,j] (1 - X[l,j])    400 entries",
        "  q_Z₁[l,j] = q_X[l,j] X[l,j] (1 - X[l,j])",
    ):
        assert line in text.splitlines()
    assert "  q_Z₂ = (Q - LABELS) / 5    holds at these arguments and two near them" in text
    assert "Z₁ = φ₁(DATA, W₁, b₁) ∈ T_(5,4)" in text
    assert "dense, a pass a row (jacrev)" in text
    assert "every formula was evaluated" in text
    assert max(map(len, explained_lecture().text(width=70).splitlines())) < 125


def test_lines_of_text_are_broken_between_factors():
    lines = explained_lecture().text(width=40).splitlines()
    start = lines.index("The chain rule") + 2
    assert lines[start : start + 2] == [
        "  D_W₁ lecture = D_Q ℓ ⋆ D_Z₂ ψ₂",
        "      ⋆ D_X φ₂ ⋆ D_Z₁ ψ₁ ⋆ D_W₁ φ₁",
    ]


def test_sum_over_paths_is_a_sum_and_what_is_shared_has_a_name():
    def twice(x):
        h = jnp.sin(x)
        return jnp.sum(h * jnp.cos(h)) * h

    explanation = blockjac.explain(twice)(jnp.ones(3))
    *shared, own = str(explanation.chain_rule).splitlines()
    assert shared[0].startswith("q_v₁ = D_v₁ twice = ")
    assert " ".join(shared).count(" + ") == 2
    assert own == "D_x twice = q_v₁ ⋆ D_x sin"


# Forms


class Page(html.parser.HTMLParser):
    """Collects tags, and checks that they are closed in order."""

    VOID = frozenset({"meta", "link", "br", "hr", "img", "input", "mspace"})

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.addresses = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for key, value in attrs if key in ("src", "href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag


def test_html_is_one_file_with_mathml():
    page = Page()
    text = explained_lecture().html()
    page.feed(text)
    assert not page.open
    assert page.tags.count("math") > 20
    assert not [address for address in page.addresses if not address.startswith("#")]
    assert "://" not in text.replace("http://www.w3.org/", "")
    assert len(text) < 1_000_000


def test_markdown_and_notebooks():
    explanation = explained_lecture()
    markdown = explanation.markdown()
    assert markdown.startswith("# lecture and its Jacobian by W₁, b₁, W₂, b₂\n")
    assert markdown.count("$$") % 2 == 0
    assert "| order | multiplications |" in markdown
    bundle = explanation._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "text/html", "text/markdown"}
    assert repr(explanation) == str(explanation) == bundle["text/plain"]
    assert explanation._repr_latex_() == explanation.latex()
    assert explanation.chain_rule._repr_html_().count("<math>") == len(explanation.chain_rule) == 4


def test_picture_has_a_box_for_each_tensor_and_an_arrow_for_each_jacobian(tmp_path):
    figure = explained_lecture().plot()
    (axes,) = figure.axes
    assert len(axes.patches) == 9
    words = {text.get_text() for text in axes.texts}
    assert {"W₁", "Z₁ = φ₁", "5×4", "δ·dense"} <= words
    figure.savefig(tmp_path / "graph.png")
    import matplotlib.pyplot as plt

    assert not plt.get_fignums()


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_latex_compiles(tmp_path):
    def odd(params):
        return jnp.sum(params["lambda"] * params["W_1 %&#"]) + params["é"] * params["α"]

    params = {"lambda": jnp.ones(2), "W_1 %&#": jnp.ones(2), "é": 1.0, "α": 2.0}
    for explanation in (explained_lecture(), blockjac.explain(odd)(params)):
        (tmp_path / "page.tex").write_text(explanation.latex(whole=True), encoding="utf-8")
        command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "page.tex"]
        result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stdout[-2000:]


def test_latex_of_odd_names_is_escaped():
    def odd(params):
        return params["a_b%"] * params["$x&y"] + params["#~^{}\\"]

    latex = blockjac.explain(odd)({"a_b%": 1.0, "$x&y": 2.0, "#~^{}\\": 3.0}).latex()
    assert not re.search(r"(?<!\\)[%#$~]", latex.replace("\\textasciitilde{}", ""))


# Names


def test_names():
    assert [str(Name.of(text)) for text in ("W1", "phi_2", "h_t", "layers.0.W", "x")] == [
        "W1",
        "phi2",
        "h_t",
        "W_layers,0",
        "x",
    ]
    assert [str(own) for own in unique([Name("Z"), Name("X"), Name("Z")], [Name("X")])] == [
        "Z1",
        "X2",
        "Z2",
    ]


def test_variables_are_called_as_the_parameters_of_the_steps_that_read_them():
    @jax.jit
    def inner(state):
        return jnp.sin(state)

    @blockjac.step("g", result="y")
    def outer(h):
        return h**2

    explanation = blockjac.explain(lambda x: jnp.sum(outer(inner(x * 2))))(jnp.ones(2))
    names = [str(own.name) for own in explanation.program.variables.values()]
    assert names == ["x", "state", "h", "y", "f"]


def test_captured_arrays_have_the_names_of_the_closure():
    weights = np.ones(3)
    explanation = blockjac.explain(lambda x: x * weights)(jnp.ones(3))
    assert "weights ∈ T_(3)" in str(explanation)


# Steps


def test_step_changes_nothing_of_what_a_function_does():
    @blockjac.step("power")
    def power(x, n, *, shift=0.0):
        """Powers."""
        return {"y": x**n + shift, "n": n}

    assert power.__doc__ == "Powers."
    assert power(2.0, 3)["n"] == 3
    assert type(power(2.0, 3)["n"]) is int
    x = jnp.arange(3.0)
    given = jax.jit(lambda x: power(x, 3, shift=1.0)["y"])(x)
    np.testing.assert_array_equal(given, x**3 + 1)
    np.testing.assert_array_equal(jax.vmap(lambda x: power(x, 2)["y"])(x), x**2)
    exact = np.diag(3 * np.arange(3.0) ** 2)
    np.testing.assert_allclose(blockjac.jacobian(lambda x: power(x, 3)["y"])(x), exact)
    np.testing.assert_allclose(jax.jacrev(lambda x: power(x, 3)["y"])(x), exact)


@pytest.mark.parametrize("name", ["", "  ", 3, None])
def test_step_without_a_name_is_refused(name):
    with pytest.raises(
        InvalidOptionError, match="a step needs a name that formulas can call it by"
    ):
        blockjac.step(name)


def test_inside_of_a_step():
    network = explained_lecture()
    softmax = network.inside("psi_2")
    assert softmax.checked is True
    assert "exp" in str(softmax.chain_rule)
    layer = network.inside("phi2")
    assert str(layer.chain_rule).splitlines()[0] == "D_X φ₂ = D_v₁ add ⋆ D_X dot"
    with pytest.raises(InvalidOptionError, match=r"no step called 'relu' has .*: ell, phi1, phi2"):
        network.inside("relu")


# Odd programs


def test_shapes_suffice_and_the_check_takes_random_arguments():
    struct = jax.ShapeDtypeStruct((4,), jnp.float64)
    explanation = blockjac.explain(lambda x: jnp.log(x) * jnp.sum(x))(struct)
    assert explanation.checked is True
    assert np.all(explanation.arguments[0] > 0)  # where the logarithm is finite


def test_wrong_formula_is_said_to_be_wrong(monkeypatch):
    from blockjac.explanations import numbers

    explanation = blockjac.explain(lambda x: jnp.sum(jnp.sin(x) ** 2))(jnp.ones(3))
    monkeypatch.setattr(numbers, "evaluated", lambda formula, arrays: np.zeros(formula.shape))
    assert explanation.checked is False
    assert "NOT RIGHT" in str(explanation)


def test_what_is_too_large_is_not_checked_and_said_so():
    struct = jax.ShapeDtypeStruct((100_000,), jnp.float64)
    explanation = blockjac.explain(jnp.tanh)(struct)
    assert explanation.checked is None
    assert "not checked: the program or its Jacobian is too large" in str(explanation)


def test_program_that_is_too_large_to_run_is_explained():
    X = jax.ShapeDtypeStruct((10**6, 3000), jnp.float64)
    W = jax.ShapeDtypeStruct((3000, 3000), jnp.float64)
    explanation = blockjac.explain(lambda X, W: jnp.sum(jnp.tanh(X @ W), axis=0), (0, 1))(X, W)
    assert explanation.checked is None
    assert explanation.simplifications == ()
    assert "too large to compute here" in str(explanation)
    assert len(explanation.html()) < 1_000_000


@pytest.mark.slow
def test_thousand_steps_are_folded():
    def long(x):
        for _ in range(250):
            x = jnp.sin(x) * 1.01 + x
        return jnp.sum(x)

    explanation = blockjac.explain(long)(jax.ShapeDtypeStruct((5,), jnp.float64))
    text = str(explanation)
    assert "more steps, folded; most=None shows all" in text
    assert "name steps with blockjac.step or jax.jit" in " ".join(text.split())
    assert len(text) < 30_000


def test_constant_and_identical_results():
    explanation = blockjac.explain(lambda x: (x * 2, jnp.ones(2), x))(jnp.ones(3))
    assert str(explanation.chain_rule).splitlines() == [
        "D_x f₁ = D_x mul",
        "D_x f₂ = 0",
        "D_x x = I",
    ]
    assert explanation.checked is True


def test_empty_arrays_and_random_keys():
    explanation = blockjac.explain(lambda x: jnp.sum(x**2) * x)(jnp.ones(0))
    assert explanation.checked is True
    noisy = blockjac.explain(lambda x, key: x * jax.random.normal(key, (3,)))
    assert str(noisy(jnp.ones(3), jax.random.key(0)).formulas) == "(D_x f)[i,i'] = δ[i,i'] v₁[i]"


def test_operator_without_a_formula_is_named():
    A = jnp.diag(jnp.arange(1.0, 3))
    explanation = blockjac.explain(lambda A: jnp.linalg.eigvals(A).real)(A)
    assert "no formula is known: " in str(explanation)
    assert explanation.checked is True


def test_bad_input():
    with pytest.raises(DifferentiationTypeError, match="explain requires real- or complex-valued"):
        blockjac.explain(lambda x: x)(1)
    with pytest.raises(DifferentiationTypeError, match="explain requires real-valued inputs"):
        blockjac.explain(lambda x: x)(1j)
    with pytest.raises(ArgumentError, match="argnums=3 requires at least 4 positional arguments"):
        blockjac.explain(lambda x: x, 3)(1.0)
    with pytest.raises(TypeError, match=r"Expected a callable value for blockjac\.explain, got 3"):
        blockjac.explain(3)
    with pytest.raises(jax.errors.TracerBoolConversionError):
        blockjac.explain(lambda x: x if x > 0 else -x)(1.0)
