"""Other packages' Jacobians and Hessians, imported when they are measured."""

import warnings
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

import harness

__all__ = [
    "asdex_hessian",
    "asdex_jacobian",
    "sparsejac_values",
    "tensor_of",
    "torch_hessian",
    "torch_module",
    "waited_for",
]

Function = Callable[..., Any]
Arguments = tuple[jax.Array, ...]
ArgNums = int | tuple[int, ...]


def asdex_jacobian(
    function: Function,
    arguments: Arguments,
    argnums: ArgNums = 0,
    *,
    values: bool = False,
    sparse: bool = False,
) -> harness.Peer:
    """The Jacobian by coloured passes at the places asdex finds.

    Dense, or the values alone, or the values with their places in a sparse array of JAX.
    """

    def make() -> Function:
        import asdex

        form = "bcoo" if values or sparse else "dense"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", asdex.DenseColoringWarning)
            computed = asdex.jacobian(function, *arguments, argnums=argnums, output_format=form)
        return (lambda *arguments: computed(*arguments).data) if values else computed

    return harness.Peer(make, alike=not (values or sparse))


def asdex_hessian(
    function: Function, arguments: Arguments, argnums: ArgNums = 0, *, values: bool = False
) -> harness.Peer:
    """The Hessian by coloured Hessian-vector products: dense, or the values alone."""

    def make() -> Function:
        import asdex

        form = "bcoo" if values else "dense"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", asdex.DenseColoringWarning)
            computed = asdex.hessian(function, *arguments, argnums=argnums, output_format=form)
        return (lambda *arguments: computed(*arguments).data) if values else computed

    return harness.Peer(make, alike=not values)


def sparsejac_values(
    function: Function,
    places: np.ndarray,
    shape: tuple[int, ...],
    method: str,
    *,
    sparse: bool = False,
) -> harness.Peer:
    """The values by coloured passes of a function of one array, at the places that are given.

    Args:
        function: of an array of the shape.
        places: rows and columns of the values, `(count, 2)`, of the flattened Jacobian.
        shape: of the argument.
        method: "jacfwd" or "jacrev".
        sparse: whether the places are part of the answer.
    """

    def make() -> Function:
        import sparsejac
        from jax.experimental.sparse import BCOO

        size, outputs = int(np.prod(shape)), int(places[:, 0].max()) + 1
        pattern = BCOO((np.ones(len(places)), places), shape=(outputs, size))

        def flat(x: jax.Array) -> jax.Array:
            return function(x.reshape(shape)).ravel()

        computed = getattr(sparsejac, method)(flat, pattern)
        if sparse:
            return lambda x: computed(x.ravel())
        return lambda x: computed(x.ravel()).data

    return harness.Peer(make, alike=False)


def torch_module() -> Any:
    """PyTorch, for the device that JAX is measured on, with products of the same precision.

    Raises:
        RuntimeError: it does not know that device.
    """
    import torch

    if torch_device() == "cuda" and not torch.cuda.is_available():
        raise RuntimeError("this PyTorch computes on the processor only")
    torch.backends.cuda.matmul.allow_tf32 = harness.has_short_products()
    torch.backends.cudnn.allow_tf32 = harness.has_short_products()
    return torch


def torch_device() -> str:
    """PyTorch's name of the device that JAX is measured on."""
    return "cuda" if harness.device().platform == "gpu" else harness.device().platform


def tensor_of(array: Any) -> Any:
    """An array as a tensor of PyTorch on that device."""
    return torch_module().tensor(np.asarray(array), device=torch_device())


def waited_for(function: Function) -> Function:
    """A function of PyTorch that returns when the device is done."""
    if torch_device() != "cuda":
        return function
    torch = torch_module()

    def wait(*arguments: Any) -> Any:
        result = function(*arguments)
        torch.cuda.synchronize()
        return result

    return wait


def torch_hessian(
    make_function: Callable[[Any], Function], arguments: Arguments, argnums: ArgNums = 0
) -> harness.Peer:
    """The Hessian by `torch.func`, of a function that is made from the module `torch`."""

    def make() -> Function:
        torch = torch_module()
        tensors = [tensor_of(argument) for argument in arguments]
        computed = torch.func.hessian(make_function(torch), argnums)
        return waited_for(lambda *_: computed(*tensors))

    return harness.Peer(make, compiled=False)
