"""Formulas of single factorizations, triangular systems and transforms are those of textbooks."""

import re
import shutil
import subprocess

import jax
import jax.numpy as jnp
import jax.scipy.linalg as jsl
import numpy as np
import pytest
from support.linear_algebra_programs import jacobians
from support.printed_jacobian import jacobian_as_printed

import blockjac
from blockjac.explanations.closed_forms import triangular
from blockjac.explanations.written import equation_text

A = jnp.asarray(np.random.default_rng(0).normal(size=(3, 3)) + 3 * np.eye(3))
x = jnp.arange(1.0, 4.0)


def explained(function, *arguments):
    """The formulas in one line each, and the whole text; the printed ones are compared with JAX."""
    explanation = blockjac.explain(function, tuple(range(len(arguments))))(*arguments)
    exact = jacobians(function, arguments)
    for (name, array), wanted in zip(jacobian_as_printed(explanation), exact, strict=True):
        np.testing.assert_allclose(array, wanted, rtol=1e-9, atol=1e-11, err_msg=name)
    formulas = explanation.formulas.equations
    return [" ".join(equation_text(own, 1000)) for own in formulas], str(explanation)


def test_fourier_transform_is_a_cosine_of_fractions_of_a_turn():
    formulas, _ = explained(lambda x: jnp.real(jnp.fft.fft(x)), x)
    assert formulas == ["(D_x f)[i,i'] = cos(2 π i i'/3)"]
    formulas, _ = explained(lambda x: jnp.imag(jnp.fft.rfft(x)), x)
    assert formulas == ["(D_x f)[j,i] = cos(2 π (j i/3 + 1/4))"]


def test_inverse_of_half_a_spectrum_counts_all_frequencies_but_the_ends_twice():
    for length, weight in ((3, "(2 - [i = 0])"), (4, "(2 - [i = 0] - [i = 2])")):
        half = jnp.ones(length // 2 + 1)
        formulas, _ = explained(lambda h, n=length: jnp.fft.irfft(h, n=n), half)
        assert formulas[0].endswith(f"= cos(2 π j i/{length}) {weight} / {length}")
    formulas, _ = explained(lambda h: jnp.fft.irfft(h, n=2), jnp.ones(2))
    assert formulas == ["(D_h f)[i,i'] = cos(2 π i i'/2) / 2"]


def test_triangle_that_is_not_read_has_no_derivative():
    formulas, text = explained(lambda A, b: jsl.solve_triangular(A, b, lower=True), A, x)
    assert formulas == [
        "(D_A f)[i,i',j] = -[i' ≥ j] v₂[j,0] B[i,i']",
        "(D_b f)[i,i'] = B[i,i']",
    ]
    assert "where B is computed by inv(tril(A))" in text
    formulas, text = explained(lambda A: jsl.solve_triangular(A, x, unit_diagonal=True), A)
    assert formulas == ["(D_A f)[i,i',j] = -[j ≥ i'+1] v₂[j,0] B[i,i']"]
    assert "where B is computed by inv(triu(A) with ones on the diagonal)" in text


def test_eigenvalues_and_vectors_of_a_symmetric_matrix():
    formulas, _ = explained(lambda S: jnp.linalg.eigh(S)[0], A @ A.T)
    assert formulas[0] == "q_v₂[i,i',j] = v₄[i',i] v₄[j,i] / 2"
    formulas, _ = explained(lambda S: jnp.linalg.eigh(S)[1], A @ A.T)
    assert formulas[0] == "A[i,i'] = (1 - δ[i,i']) / (v₄[i'] - v₄[i] + δ[i,i'])"
    assert formulas[1] == "q_v₃[i,i',j,j'] = f[j',i'] (Σ_k f[i,k] A[k,i'] f[j,k])"


def test_sum_over_eigenvalues_is_a_matrix_function():
    formulas, text = explained(lambda S: jnp.sum(jnp.exp(jnp.linalg.eigvalsh(S))), A @ A.T)
    assert formulas[-1] == "(D_S f)[i,i'] = Σ_j v₂[j] B[i,j] B[i',j]"
    assert "where B is computed by the vectors of eigh(A)" in text


def test_singular_values():
    formulas, _ = explained(lambda A: jnp.linalg.svd(A)[1], A)
    assert formulas == ["(D_A f)[i,i',j] = v₁[i',i] v₂[i,j]"]


def test_triangle_of_qr():
    formulas, text = explained(lambda A: jnp.linalg.qr(A)[1], A)
    assert formulas == [
        "(D_A f)[i,i',j,j'] = v₁[j,i] (Σ_k [k ≥ i] B[j',k] f[k,i']) "
        "+ B[j',i] (Σ_k' [k' ≥ i+1] v₁[j,k'] f[k',i'])"
    ]
    assert "where B is computed by inv(f)" in text


def test_complex_factors_are_matrices_of_two_rows():
    h = jnp.asarray([1.0 + 2.0j, 0.5j, 3.0])
    formulas, text = explained(lambda x: jnp.abs(jnp.fft.fft(x) * h) ** 2, x)
    assert formulas[-1] == "(D_x f)[i,i'] = Σ_j,k q_v₁[i,j,k] cos(2 π (k i'/3 + j/4))"
    assert "is computed by [Re, -Im; Im, Re] of h" in text
    assert "is computed by (Re v₂, Im v₂) / |v₂|" in text


def test_equal_eigenvalues_are_not_called_wrong():
    def values(S):
        return jnp.sum(jnp.linalg.eigvalsh(S) ** 3)

    assert blockjac.explain(values)(jnp.eye(3)).checked is True
    vectors = blockjac.explain(lambda S: jnp.linalg.eigh(S)[1])(jnp.diag(jnp.array([1.0, 1, 2])))
    assert vectors.checked is not False


@pytest.mark.slow
@pytest.mark.parametrize(
    "function",
    [
        lambda A: jnp.linalg.qr(A[:2])[1],
        lambda A: jnp.linalg.svd(A * (1 + 1j))[0].real,
        lambda A: jnp.linalg.eigvals(A).real,
        lambda A: jnp.linalg.qr(A * (1 + 1j))[1].real,
    ],
)
def test_what_has_no_closed_form_is_said_to_have_none(function):
    explanation = blockjac.explain(function)(A + jnp.diag(x))
    assert "no formula is known" in str(explanation)
    assert explanation.checked is not False


def test_wrong_formula_is_found(monkeypatch):
    monkeypatch.setattr(triangular, "half_of_diagonal", lambda row, column: [])
    function = jax.jit(lambda S: jsl.cholesky(S, lower=True))
    assert blockjac.explain(function)(A @ A.T).checked is False


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_latex_and_page(tmp_path):
    def f(S, x):
        L = jnp.linalg.cholesky(S)
        return jnp.sum(jnp.abs(jnp.fft.fft(jsl.solve_triangular(L, x, lower=True))))

    explanation = blockjac.explain(f)(A @ A.T, x)
    latex = explanation.latex(whole=True)
    assert r"\cos\left(2 \, \pi \," in latex
    assert r"[k \geq" in latex
    (tmp_path / "page.tex").write_text(latex, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "page.tex"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    page = explanation.html()
    assert "mi>π" in page
    assert "is computed by inv(" in page


def test_no_step_is_explained_by_itself():
    def likelihood(S, r):
        L = jnp.linalg.cholesky(S)
        z = jax.scipy.linalg.solve_triangular(L, r, lower=True)
        return 0.5 * z @ z + jnp.sum(jnp.log(jnp.diagonal(L)))

    text = str(blockjac.explain(likelihood, (0, 1))(jnp.eye(3) + 1.0, jnp.ones(3)))
    assert "v₂ = solve_triangular(v₁, r) ∈ T_(3)" in text
    assert not re.search(r"^  (\S+) = \1 ", text, re.MULTILINE)


def test_places_that_are_looked_up_inside_of_an_angle():
    places = jnp.array([2, 0, 3, 3])

    @blockjac.step("phi")
    def chosen(signal):
        return jnp.abs(jnp.fft.rfft(signal)[places]) ** 2

    def energy(signal):
        return jnp.sum(chosen(signal) ** 2)

    signal = jnp.asarray(np.random.default_rng(1).normal(size=8))
    explanation = blockjac.explain(energy)(signal)
    assert explanation.checked
    ((_, printed),) = jacobian_as_printed(explanation)
    np.testing.assert_allclose(printed, jax.grad(energy)(signal), rtol=1e-10, atol=1e-12)
    assert "#" not in str(explanation)
    assert "#" not in explanation.latex().replace(r"\#", "")
