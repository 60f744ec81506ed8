"""Primitives beyond the table of rules: linear algebra, transforms, convolutions, integers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from support.cases import CASES
from support.emitted import differences, job, run

from blockjac.explanations.source.targets import target_of
from blockjac.graph.primitives import PRIMITIVES

random = np.random.default_rng(0)
square = jnp.asarray(random.normal(size=(4, 4)))
stack = jnp.asarray(random.normal(size=(2, 3, 3)))
tall = jnp.asarray(random.normal(size=(5, 3)))
vector = jnp.asarray(random.normal(size=4))
definite = square @ square.T + 4 * jnp.eye(4)
signal = jnp.asarray(random.normal(size=(2, 8)))
image = jnp.asarray(random.normal(size=(2, 4, 7, 6)))
kernel = jnp.asarray(random.normal(size=(6, 4, 3, 2)))
whole = jnp.array([-7, -2, 0, 3, 9])
others = jnp.array([2, -3, 5, 3, -4])
bits = jnp.array([1, 5, 250, 0, 7], jnp.uint8)
z = square + 1j * square.T


def convolved(**options):
    def function(x, k):
        return lax.conv_general_dilated(
            x, k, **{"window_strides": (1, 1), "padding": "SAME", **options}
        )

    return function


def triangular(**options):
    return lambda a, b: lax.linalg.triangular_solve(a, b, **options)


def signs_fixed(parts):
    return [jnp.abs(part) for part in parts]


CALLS = {
    "cholesky": (jnp.linalg.cholesky, (definite,)),
    "solve": (jnp.linalg.solve, (definite, vector)),
    "solve-matrix": (jnp.linalg.solve, (definite, square)),
    "solve-batch": (jnp.linalg.solve, (stack, stack)),
    "inverse": (jnp.linalg.inv, (definite,)),
    "determinant": (jnp.linalg.det, (square,)),
    "slogdet": (jnp.linalg.slogdet, (definite,)),
    "slogdet-batch": (jnp.linalg.slogdet, (stack,)),
    "qr": (lambda a: signs_fixed(jnp.linalg.qr(a)), (tall,)),
    "qr-complete": (lambda a: signs_fixed(jnp.linalg.qr(a, mode="complete"))[1], (tall,)),
    "svd": (lambda a: signs_fixed(jnp.linalg.svd(a, full_matrices=False)), (tall,)),
    "svd-values": (lambda a: jnp.linalg.svd(a, compute_uv=False), (tall,)),
    "eigh": (lambda a: signs_fixed(jnp.linalg.eigh(a)), (definite,)),
    "eigvalsh": (jnp.linalg.eigvalsh, (definite,)),
    "eigvals": (lambda a: jnp.sort(jnp.abs(jnp.linalg.eigvals(a))), (square,)),
    "eig": (lambda a: jnp.sort(jnp.abs(jnp.linalg.eig(a)[0])), (square,)),
    "tridiagonal_solve": (
        lax.linalg.tridiagonal_solve,
        (vector, vector + 9, vector, square),
    ),
    **{
        f"triangular-{side}-{lower}-{transposed}-{unit}": (
            triangular(
                left_side=side == "left",
                lower=lower == "lower",
                transpose_a=transposed == "T",
                unit_diagonal=unit == "unit",
            ),
            (definite, square),
        )
        for side in ("left", "right")
        for lower in ("lower", "upper")
        for transposed in ("T", "N")
        for unit in ("unit", "any")
    },
    "triangular-batch": (triangular(left_side=True, lower=True), (stack, stack)),
    "triangular-conjugate": (
        triangular(left_side=True, lower=True, transpose_a=True, conjugate_a=True),
        (z + 9 * jnp.eye(4), z),
    ),
    "fft": (jnp.fft.fft, (signal,)),
    "ifft": (jnp.fft.ifft, (z,)),
    "rfft": (jnp.fft.rfft, (signal,)),
    "irfft": (lambda x: jnp.fft.irfft(x, n=7), (z,)),
    "fft2": (jnp.fft.fft2, (z,)),
    "rfft2": (jnp.fft.rfft2, (square,)),
    "irfft2": (jnp.fft.irfft2, (z,)),
    "convolution": (convolved(), (image, kernel)),
    "convolution-valid": (convolved(padding="VALID", window_strides=(2, 1)), (image, kernel)),
    "convolution-dilated": (
        convolved(padding=((1, 2), (0, 3)), lhs_dilation=(2, 1), rhs_dilation=(1, 2)),
        (image, kernel),
    ),
    "convolution-groups": (convolved(feature_group_count=2), (image, kernel[:, :2])),
    "convolution-batch-groups": (convolved(batch_group_count=2), (image, kernel)),
    "convolution-last": (
        convolved(dimension_numbers=("NHWC", "HWIO", "NHWC")),
        (image.transpose(0, 2, 3, 1), kernel.transpose(2, 3, 1, 0)),
    ),
    "convolution-empty": (convolved(padding="VALID"), (image[:, :, :2], kernel)),
    "convolution-gradient": (
        jax.grad(lambda x, k: jnp.sum(jnp.sin(convolved(window_strides=(2, 1))(x, k))), (0, 1)),
        (image, kernel),
    ),
    "pooling-gradient": (
        jax.grad(
            lambda x: jnp.sum(
                lax.reduce_window(x, -jnp.inf, lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID") ** 3
            )
        ),
        (image,),
    ),
    "integer-division": (lax.div, (whole, others)),
    "integer-division-by-zero": (lax.div, (whole, whole)),
    "integer-remainder": (lax.rem, (whole, others)),
    "integer-floor-division": (lambda a, b: (a // b, a % b), (whole, others)),
    "integer-power": (lambda a: a**3, (whole,)),
    "integer-sum": (lambda a: (jnp.sum(a.astype(jnp.int32)), jnp.cumsum(a)), (whole,)),
    "shifts": (
        lambda a: (
            lax.shift_left(a, a // 40),
            lax.shift_right_logical(a, jnp.full_like(a, 9)),
            lax.shift_right_arithmetic(a, jnp.ones_like(a)),
        ),
        (bits,),
    ),
    "signed-shifts": (
        lambda a: (
            lax.shift_right_logical(a, jnp.ones_like(a)),
            lax.shift_right_arithmetic(a, jnp.full_like(a, 80)),
            lax.shift_left(a, jnp.full_like(a, 2)),
        ),
        (whole,),
    ),
    "bits": (lambda a: (lax.clz(a), lax.population_count(a), ~a, a & 3, a | 8, a ^ 5), (bits,)),
    "bools": (
        lambda a: (a.any(), a.all(0), ~a, a & True, a ^ (a == False)),  # noqa: E712
        (square > 0,),
    ),
    "bitcast": (lambda a: lax.bitcast_convert_type(a, jnp.int64), (vector,)),
    "extremes-of-integers": (lambda a: (jnp.max(a), jnp.argmin(a), jnp.sort(a)), (whole,)),
    "rounded": (
        lambda a: (jnp.round(a), lax.round(a, lax.RoundingMethod.AWAY_FROM_ZERO), jnp.trunc(a)),
        (jnp.array([-2.5, -0.5, 0.5, 1.5, 2.5, 1e17]),),
    ),
    "complex": (lambda z: (z.real, z.imag, jnp.conj(z), jnp.abs(z), jnp.exp(z) * 2j, z @ z), (z,)),
    "complex-parts": (lambda a: lax.complex(a, jnp.inf * jnp.ones_like(a)), (square,)),
    "complex-polar": (lambda z: (jnp.angle(z), jnp.sqrt(z), jnp.sign(z)), (z,)),
    "nextafter": (jnp.nextafter, (vector, vector + 1)),
    "zeta": (lambda a: jax.scipy.special.zeta(a, 2.0), (jnp.abs(vector) + 2,)),
    "random": (
        lambda k: jax.random.normal(jax.random.wrap_key_data(k), (3,)),
        (bits[:2].astype("uint32"),),
    ),
    "random-split": (
        lambda a: a * jax.random.uniform(jax.random.split(jax.random.key(3))[1], (4,)),
        (vector,),
    ),
    "half": (lambda a: (a.astype(jnp.float16) * 2).astype(jnp.float64), (vector,)),
    "to-integers": (lambda a: ((a * 10).astype(jnp.int32), a > 0, a.astype(bool)), (vector,)),
    "einsum": (lambda x, y: jnp.einsum("nij,nkj->ink", x, y), (stack, stack)),
    "dot-of-integers": (lambda a: a @ a, (whole,)),
    "dot-in-single": (
        lambda a: jnp.dot(a, a, preferred_element_type=jnp.float64),
        (vector.astype(jnp.float32),),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("target", ["numpy", pytest.param("jax", marks=pytest.mark.slow)])
def test_calls(target):
    jobs, wanted = [], []
    for name, (function, arguments) in CALLS.items():
        jobs.append(job(name, target, {"function": function}, arguments, jitted=target == "jax"))
        wanted.append([jax.jit(function)(*arguments)])
    wrong = []
    for each, results, right in zip(jobs, run(jobs), wanted, strict=True):
        text = differences(results, right, 1e-11, 1e-12)
        wrong += [f"{each.name}:\n{text}"] if text else []
    assert not wrong, "\n\n".join(wrong)


UNWRITTEN = {
    "all_gather": "needs the axis of a mesh",
    "all_to_all": "needs the axis of a mesh",
    "ppermute": "needs the axis of a mesh",
    "psum": "needs the axis of a mesh",
    "psum_invariant": "needs the axis of a mesh",
    "reduce_scatter": "needs the axis of a mesh",
    "bcoo_dot_general": "a product of JAX's sparse arrays, which NumPy has not",
    "ragged_dot_general": "not printed yet",
}
"""Primitives with a rule of this library that no module can have, each with the reason."""


@pytest.mark.parametrize("target", ["numpy", "jax"])
def test_every_primitive_can_be_written(target):
    assert set(PRIMITIVES) - set(target_of(target).translations) == set(UNWRITTEN)


SINGLE = sorted(set(CASES) - {"convert_element_type", "gather-uint8", "dynamic_slice-uint8"})


@pytest.mark.slow
@pytest.mark.parametrize("start", range(0, len(SINGLE), 100))
def test_single_precision_stays(start):
    jobs, wanted = [], []
    for name in SINGLE[start : start + 100]:
        case = CASES[name]
        arguments = [
            value.astype(jnp.float32) if value.dtype == jnp.float64 else value
            for value in case.values()
        ]
        try:
            right = jax.jit(case.function)(*arguments)
        except TypeError:
            continue  # the case itself has an array of float64
        jobs.append(job(name, "numpy", {"function": case.function}, arguments))
        wanted.append([right])
    wrong = []
    for each, results, right in zip(jobs, run(jobs), wanted, strict=True):
        text = differences(results, right, 2e-4, 2e-5)
        wrong += [f"{each.name}:\n{text}"] if text else []
    assert not wrong, "\n\n".join(wrong)
