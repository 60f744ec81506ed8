"""Linear algebra and Fourier transforms."""

from __future__ import annotations

from collections.abc import Sequence

from blockjac.explanations.source.builder import Equation, Result, Translation
from blockjac.explanations.source.expressions import (
    Attribute,
    Call,
    Display,
    Expression,
    Text,
    call,
    integers,
    method,
    number,
)
from blockjac.explanations.source.fallback import by_primitive
from blockjac.explanations.source.program import OBJECT, Assign, Value
from blockjac.explanations.source.sorting import parts_of

TRUE, FALSE = Text("True"), Text("False")


def unpacked(equation: Equation, code: Expression, hints: Sequence[str]) -> Sequence[Value]:
    """`q, r = code`, made once."""
    builder = equation.builder
    whole = builder.block.recalled(code)
    if whole is None:
        results = [
            builder.variable(out.shape, out.dtype, hint)
            for out, hint in zip(equation.outputs, hints, strict=True)
        ]
        builder.add(Assign(Display("", tuple(x.ref for x in results)), code, tuple(results)))
        whole = builder.variable((), OBJECT, "whole")
        whole.parts = tuple(results)
        builder.block.memory[code] = whole
    return list(whole.parts)


def cholesky(equation: Equation) -> Result:
    """The lower factor."""
    return call(f"{equation.module}.linalg.cholesky", equation.exact(0))


def triangular_solve(equation: Equation) -> Result:
    """`solve_triangular(a, b, lower=True)`; from the right by transposes."""
    params = equation.params
    a, b = equation.all_exact()
    lower, is_left = bool(params["lower"]), bool(params["left_side"])
    transposed, conjugated = bool(params["transpose_a"]), bool(params["conjugate_a"])
    if equation.module == "jnp":
        options: dict[str, Expression] = {
            key: TRUE
            for key in ("left_side", "lower", "transpose_a", "conjugate_a", "unit_diagonal")
            if params[key]
        }
        return call("lax.linalg.triangular_solve", a, b, **options)
    if not is_left:
        transposed = not transposed
        b = Attribute(b, "mT")
    if conjugated and not transposed:
        a, conjugated = call("np.conj", a), False
    mark = "C" if conjugated else "T" if transposed else "N"
    options = {"lower": Text(str(lower))}
    is_single = len(equation.shapes[0]) == 2
    if mark != "N":
        options["trans" if is_single else "transposed"] = Text(f'"{mark}"')
    if params["unit_diagonal"]:
        options["unit_diagonal"] = TRUE
    name = "_solve_triangular" if not is_single else "linalg.solve_triangular"
    code: Expression = call(name, a, b, **options)
    return code if is_left else Attribute(code, "mT")


def lu(equation: Equation) -> Result:
    """The factors in one matrix, the exchanges, and the permutation."""
    name = "_lu" if equation.module == "np" else "lax.linalg.lu"
    return unpacked(equation, call(name, equation.exact(0)), ["lu", "pivots", "permutation"])


def permutation(equation: Equation) -> Result:
    """The permutation of a row of exchanges."""
    size = number(int(equation.params["permutation_size"]))
    name = "_permutation" if equation.module == "np" else "lax.linalg.lu_pivots_to_permutation"
    return call(name, equation.exact(0), size)


def qr(equation: Equation) -> Result:
    """An orthogonal and an upper triangular factor."""
    if equation.params.get("pivoting"):
        if equation.module == "np":
            return by_primitive(equation)
        options = {"pivoting": TRUE}
        if not equation.params["full_matrices"]:
            options["full_matrices"] = FALSE
        return unpacked(
            equation, call("lax.linalg.qr", equation.exact(0), **options), ["q", "r", "order"]
        )
    options = {"mode": Text('"complete"')} if equation.params["full_matrices"] else {}
    code = call(f"{equation.module}.linalg.qr", equation.exact(0), **options)
    return unpacked(equation, code, ["q", "r"])


def eigh(equation: Equation) -> Result:
    """Eigenvectors and eigenvalues of a symmetric matrix; JAX's primitive has vectors first."""
    builder, module = equation.builder, equation.module
    options: dict[str, Expression] = {}
    if not equation.params["lower"]:
        options["UPLO"] = Text('"U"')
    if module == "jnp":
        options["symmetrize_input"] = FALSE
    vectors, values = equation.outputs
    v = builder.variable(vectors.shape, vectors.dtype, "vectors")
    w = builder.variable(values.shape, values.dtype, "eigenvalues")
    if not equation.needed[0]:
        code = call(f"{module}.linalg.eigvalsh", equation.exact(0), **options)
        if module == "np" or "UPLO" not in options:
            options.pop("symmetrize_input", None)
            return [None, builder.value(code, values.shape, values.dtype, "eigenvalues")]
    code = call(f"{module}.linalg.eigh", equation.exact(0), **options)
    first: Expression = w.ref if equation.needed[1] else Text("_")
    bound = (w, v) if equation.needed[1] else (v,)
    builder.add(Assign(Display("", (first, v.ref)), code, bound))
    return [v, w]


def svd(equation: Equation) -> Result:
    """Singular values, and the vectors if they are asked for."""
    builder, params = equation.builder, equation.params
    module, x = equation.module, equation.exact(0)
    if not params["compute_uv"]:
        return [
            builder.value(
                call(f"{module}.linalg.svd", x, compute_uv=FALSE),
                equation.out.shape,
                equation.out.dtype,
                "singular_values",
            )
        ]
    s, u, vt = (
        builder.variable(out.shape, out.dtype, hint)
        for out, hint in zip(equation.outputs, ["s", "u", "vt"], strict=True)
    )
    options = {} if params["full_matrices"] else {"full_matrices": FALSE}
    code = call(f"{module}.linalg.svd", x, **options)
    order = [(u, equation.needed[1]), (s, equation.needed[0]), (vt, equation.needed[2])]
    target = Display("", tuple(x.ref if is_needed else Text("_") for x, is_needed in order))
    builder.add(Assign(target, code, tuple(x for x, is_needed in order if is_needed)))
    return [s, u, vt]


def eig(equation: Equation) -> Result:
    """Eigenvalues and the left and right eigenvectors."""
    params = equation.params
    left, right = params["compute_left_eigenvectors"], params["compute_right_eigenvectors"]
    if equation.module == "jnp":
        code = call(
            "lax.linalg.eig",
            equation.exact(0),
            compute_left_eigenvectors=Text(str(left)),
            compute_right_eigenvectors=Text(str(right)),
        )
        whole = equation.builder.value(code, (), OBJECT, "eigen")
        return parts_of(equation, whole)
    hints = ["eigenvalues", *(["left"] if left else []), *(["right"] if right else [])]
    if left:
        return by_primitive(equation)
    if not right:
        code = call("np.linalg.eigvals", equation.exact(0))
        return [
            equation.builder.value(
                _complex_type(equation, code), equation.out.shape, equation.out.dtype, hints[0]
            )
        ]
    results = unpacked(equation, call("np.linalg.eig", equation.exact(0)), hints)
    return [
        equation.builder.value(
            _complex_type(equation, value.ref), out.shape, out.dtype, "complex_" + value.hint
        )
        for value, out in zip(results, equation.outputs, strict=True)
    ]


def _complex_type(equation: Equation, code: Expression) -> Expression:
    """NumPy returns real numbers where all are."""
    return method(code, "astype", equation.builder.dtype(equation.out.dtype))


def tridiagonal_solve(equation: Equation) -> Result:
    """The solution of tridiagonal systems."""
    name = "_solve_tridiagonal" if equation.module == "np" else "lax.linalg.tridiagonal_solve"
    return call(name, *equation.all_exact())


def fft(equation: Equation) -> Result:
    """`np.fft.fft` along the last axes."""
    kind = str(getattr(equation.params["fft_type"], "name", equation.params["fft_type"])).lower()
    lengths = tuple(map(int, equation.params["fft_lengths"]))
    rank = len(lengths)
    module = equation.module
    x = equation.exact(0)
    if rank == 1:
        options: dict[str, Expression] = {"n": number(lengths[0])} if kind == "irfft" else {}
        code: Call = call(f"{module}.fft.{kind}", x, **options)
    else:
        options = {"axes": integers(range(-rank, 0))}
        if kind == "irfft":
            options = {"s": integers(lengths), **options}
        code = call(f"{module}.fft.{kind}n", x, **options)
    return code


ALGEBRA: dict[str, Translation] = {
    "cholesky": cholesky,
    "triangular_solve": triangular_solve,
    "lu": lu,
    "lu_pivots_to_permutation": permutation,
    "qr": qr,
    "eigh": eigh,
    "svd": svd,
    "eig": eig,
    "tridiagonal_solve": tridiagonal_solve,
    "fft": fft,
}
"""Translations by primitive."""
