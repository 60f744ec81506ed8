"""Natural-gradient steps in the space of samples: a system of one row per sample or residual.

With more parameters than samples, `J' (J J' + c I)^-1 e` is `(J' J + c I)^-1 J' e` by a smaller
system (Woodbury). The kernel `J J'` comes from the factors of J, which is not formed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from blockjac.base.arrays import in_words
from blockjac.errors import ShapeMismatchError
from blockjac.transforms.clipping import check_positive
from blockjac.transforms.products import vjp
from blockjac.transforms.tangent_kernels import ntk


def min_sr(log_psi: Callable[..., Any], *, damping: Any) -> Callable[..., Any]:
    """A step of stochastic reconfiguration by a system of one row per sample (minSR, SRt).

    For `O = (J - mean(J)) / sqrt(N)` of N samples and the centred local energies e it is

        O' (O O' + damping I)^-1 e / sqrt(N)  =  (S + damping I)^-1 F,

    with the quantum geometric tensor `S = Re(O^H O)` and the force `F = Re(O^H e) / sqrt(N)`, half
    of the energy's gradient by real parameters. Parameters move by `-step_size` times the step.

    Args:
        log_psi: a JAX function `log_psi(params, samples)` of shape `(N,)`, real or complex, of real
            parameters.
        damping: added to the diagonal, a positive number.

    Returns:
        A function `(params, samples, local_energies)` that gives the step in the tree of the
        parameters; local energies of shape `(N,)` are real or complex.

    Raises:
        TypeError: for complex parameters: give their real and imaginary parts.
        ValueError: for local energies of another shape than `log_psi`.

    Source:
        Chen and Heyl, "Empowering deep neural quantum states through efficient optimization",
        Nature Physics 2024; Rende et al., "A simple linear algebra identity to optimize large-scale
        neural network quantum states", Communications Physics 2024.

    Examples:
        >>> import jax.numpy as jnp
        >>> from blockjac import interop
        >>> log_psi = lambda w, x: -(x**2) @ w
        >>> x, w = jnp.array([[0.0, 1.0], [2.0, 1.0], [1.0, 3.0]]), jnp.ones(2)
        >>> step = interop.min_sr(log_psi, damping=1e-3)(w, x, jnp.array([1.0, 2.0, 4.0]))
        >>> step.shape
        (2,)
    """
    check_positive("damping", damping)

    def step(params: Any, samples: Any, local_energies: Any) -> Any:
        """The step at these parameters."""
        count = jnp.shape(local_energies)[0] if jnp.ndim(local_energies) else 0
        return _step(log_psi, params, samples, local_energies, damping * count, center=True)

    return step


def residual_step(residuals: Callable[..., Any], *, damping: Any) -> Callable[..., Any]:
    """A damped Gauss-Newton step by a system of one row per residual.

        J' (J J' + damping I)^-1 r  =  (J' J + damping I)^-1 J' r

    For the residuals of a differential equation at sampled points this is the energy natural
    gradient in its Woodbury form. Parameters move by `-step_size` times the step.

    Args:
        residuals: a JAX function `residuals(params, points)` of shape `(N,)`; it may differentiate
            inside, as in `blockjac.laplacian`.
        damping: added to the diagonal, a positive number.

    Returns:
        A function `(params, points)` that gives `(step, residuals)`, the step in the tree of the
        parameters.

    Raises:
        TypeError: for complex parameters.
        ValueError: if the residuals are not of shape `(N,)`.

    Source:
        Müller and Zeinhofer, "Achieving high accuracy with PINNs via energy natural gradient
        descent", ICML 2023; Guzmán-Cordero et al., "Improving energy natural gradient descent
        through Woodbury, momentum, and randomization", 2025.

    Examples:
        >>> import jax.numpy as jnp
        >>> from blockjac import interop
        >>> line = lambda p, x: p[0] + p[1] * x - 2 * x
        >>> step, r = interop.residual_step(line, damping=1e-6)(jnp.zeros(2), jnp.arange(3.0))
        >>> [round(float(number), 2) for number in -step]
        [0.0, 2.0]
    """
    check_positive("damping", damping)

    def step(params: Any, points: Any) -> Any:
        """The step at these parameters, and the residuals."""
        value = residuals(params, points)
        return _step(residuals, params, points, value, damping, center=False), value

    return step


def _step(
    fun: Callable[..., Any], params: Any, batch: Any, errors: Any, damping: Any, *, center: bool
) -> Any:
    """The step `J' (J J' + damping I)^-1 errors`, with J and the errors centred if asked."""
    result = jax.eval_shape(fun, params, batch)
    shape = getattr(result, "shape", None)
    if shape is None or len(shape) != 1 or jnp.shape(errors) != shape:
        name = getattr(fun, "__name__", type(fun).__name__)
        wanted = ("min_sr", "sample") if center else ("residual_step", "residual")
        fit = f", and local energies of shape {jnp.shape(errors)}" if center else ""
        raise ShapeMismatchError(
            f"{wanted[0]} needs one number per {wanted[1]}, an array of shape (N,)"
            f"{', and as many local energies' if center else ''}, but {name!r} gives "
            f"{in_words(result)}{fit}"
        )

    def centred(array: Any, axis: int = 0) -> Any:
        return array - array.mean(axis, keepdims=True) if center else array

    def parts(params: Any, batch: Any) -> Any:
        return _real_parts(fun(params, batch))

    kernel = ntk(parts)(params, batch)  # (N, N, parts, parts)
    right = centred(_real_parts(errors + 0j)[:, : kernel.shape[-1]])
    size = right.size
    kernel = centred(centred(kernel, 0), 1).transpose(0, 2, 1, 3).reshape(size, size)
    factor = jax.scipy.linalg.cho_factor(kernel + damping * jnp.eye(size, dtype=kernel.dtype))
    solution = jax.scipy.linalg.cho_solve(factor, right.reshape(-1)).reshape(right.shape)

    def at_batch(params: Any) -> Any:
        return parts(params, batch)

    (step,) = vjp(at_batch, params)[1](centred(solution).astype(kernel.dtype))
    return step


def _real_parts(array: Any) -> Any:
    """Real and imaginary parts on a last axis; of a real array itself alone."""
    if jnp.iscomplexobj(array):
        return jnp.stack([array.real, array.imag], axis=-1)
    return jnp.asarray(array)[:, None]
