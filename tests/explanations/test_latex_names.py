"""Names of every kind in LaTeX: they compile in a plain article, and say what they are."""

import shutil
import subprocess

import jax
import jax.numpy as jnp
import pytest

import blockjac

NAMES = ("🙂_2^3\\alpha#", "a b-c", "<b>&amp;</b>\"'", "∂_1 & 50% {x}", "~x|y", "λ", "größe", "for")


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("a b-c.d", r"\text{a b-c.d}"),
        ("x^2~", r"\text{x\textasciicircum{}2\textasciitilde{}}"),
        ("<b>", r"\mathrm{\ensuremath{<}b\ensuremath{>}}"),
        ("relu", r"\mathrm{relu}"),
    ],
)
def test_names(name, written):
    explanation = blockjac.explain(blockjac.step(name)(jnp.sin))(jnp.ones(2))
    assert f"D_{{x}} {written}" in explanation.chain_rule.latex()


def test_places_in_files_have_their_own_brackets():
    latex = blockjac.explain(lambda x: jnp.sin(x))(jnp.ones(2)).latex()
    assert r"\ensuremath{<}lambda\ensuremath{>}" in latex
    assert "<lambda>" not in latex


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
def test_all_compile(tmp_path):
    def composed(x):
        for name in NAMES:
            x = jax.jit(blockjac.step(name)(jnp.sin))(x) * x
        return x

    path = tmp_path / "names.tex"
    path.write_text(blockjac.explain(composed)(jnp.ones(2)).latex(whole=True))
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", path.name]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-2000:]
