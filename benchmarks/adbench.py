"""ADBench: mixtures, bundle adjustment, hand tracking and an LSTM, each with the derivative asked.

The functions are in `public_problems`. The usual ways beside ours are what an expert writes in JAX:
one observation's Jacobian under `vmap` where the structure is known by hand, `jax.grad`, `jacfwd`.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import blockjac
import harness
import peers
from public_problems import hands, mixtures, recurrent, vision

Function = Callable[..., Any]


def gradient_of(torch_loss: Function, arguments: tuple[Any, ...], wrt: int) -> harness.Peer:
    """The gradient by PyTorch with respect to the first arguments.

    Args:
        torch_loss: of tensors.
        arguments: as arrays.
        wrt: how many of them.
    """

    def make() -> Function:
        torch = peers.torch_module()
        tensors = [peers.tensor_of(argument) for argument in arguments]
        computed = torch.func.grad(torch_loss, tuple(range(wrt)))
        return peers.waited_for(lambda *_: computed(*tensors))

    return harness.Peer(make, compiled=False)


def autograd_of(loss: Function, arguments: tuple[Any, ...], wrt: int) -> harness.Peer:
    """The same by autograd."""

    def make() -> Function:
        from autograd import grad

        arrays = [np.asarray(argument) for argument in arguments]
        computed = grad(loss, tuple(range(wrt)))
        return lambda *_: computed(*arrays)

    return harness.Peer(make, compiled=False)


def mixture(points: int, dimensions: int, components: int) -> harness.Task:
    """The gradient of the log posterior."""
    arguments = mixtures.arguments(points, dimensions, components)
    wrt = (0, 1, 2, 3)

    def by_torch(*tensors: Any) -> Any:
        import torch

        return mixtures.log_posterior(*tensors, xp=torch)

    def by_autograd(*arrays: Any) -> Any:
        import autograd.numpy

        return mixtures.log_posterior(*arrays, xp=autograd.numpy)

    return harness.Task(
        title=f"GMM: gradient, {points:,} points, d = {dimensions}, K = {components}",
        arguments=arguments,
        contenders={
            harness.OURS: blockjac.grad(mixtures.log_posterior, wrt),
            "jax.grad": jax.grad(mixtures.log_posterior, wrt),
            "the function": mixtures.log_posterior,
        },
        others={
            "torch": gradient_of(by_torch, arguments, 4),
            "autograd": autograd_of(by_autograd, arguments, 4),
        },
        alike=(harness.OURS, "jax.grad"),
        claims=(harness.Claim(1.05, ("jax.grad",)), harness.Claim(1.0, ("torch", "autograd"))),
    )


def one_observation(
    camera: jax.Array, point: jax.Array, weight: jax.Array, seen: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The errors of one observation, `(2,)` and `()`."""
    return weight * (vision.projected(camera, point) - seen), 1 - weight**2


def by_observation(mode: Function, pairs: np.ndarray) -> Function:
    """The blocks of all observations, whose structure is known by hand."""
    one = jax.vmap(mode(one_observation, (0, 1, 2)))

    def blocks(cameras: jax.Array, points: jax.Array, weights: jax.Array, seen: jax.Array) -> Any:
        return one(cameras[pairs[:, 0]], points[pairs[:, 1]], weights, seen)

    return blocks


def bundle(name: str) -> harness.Task:
    """The sparse Jacobian by cameras, points and weights."""
    cameras, points, weights, pairs, seen = vision.arguments(*vision.SIZES[name])

    def errors(*arguments: jax.Array) -> Any:
        return vision.residuals(*arguments[:3], pairs, arguments[3])

    arguments = (cameras, points, weights, seen)
    wrt = (0, 1, 2)
    ours = blockjac.block_jacobian(errors, wrt)
    counts = [f"{count:,}" for count in vision.SIZES[name]]
    return harness.Task(
        title=f"BA {name[2:]}: sparse Jacobian, {counts[0]} cameras, {counts[1]} points, "
        f"{counts[2]} observations",
        arguments=arguments,
        contenders={
            harness.OURS: ours,
            "vmap(jacfwd) of one observation": by_observation(jax.jacfwd, pairs),
            "vmap(jacrev) of one observation": by_observation(jax.jacrev, pairs),
            "the function": errors,
        },
        uncompiled={
            "blockjac, CSR array": blockjac.sparse_jacobian(jax.jit(errors), wrt),
        },
        claims=(
            harness.Claim(
                1.0, ("vmap(jacfwd) of one observation", "vmap(jacrev) of one observation")
            ),
            harness.Claim(2.0, ("the function",)),
        ),
        note="By hand one must know that an observation has one camera and one point. The CSR "
        "array of SciPy is complete, with all indices; the others are values in blocks.",
    )


def hand(points: int, is_complicated: bool) -> harness.Task:
    """The Jacobian by 26 angles and shifts, and by two coordinates a point if asked."""
    data = hands.hand(points)
    theta, inside = hands.arguments(points)

    def errors(theta: jax.Array, *more: jax.Array) -> jax.Array:
        return hands.complicated(theta, *more, data) if more else hands.simple(theta, data)

    def compressed(theta: jax.Array, inside: jax.Array) -> Any:
        """Forward mode by the angles; by two tangents for all coordinates, as each is its own."""

        def along(place: int) -> jax.Array:
            tangent = jnp.zeros_like(inside).at[:, place].set(1.0)
            return jax.jvp(lambda inside: errors(theta, inside), (inside,), (tangent,))[1]

        return jax.jacfwd(errors)(theta, inside), along(0), along(1)

    common: dict[str, Any] = {"claims": (harness.Claim(1.0, ("jacfwd",)),)}
    if not is_complicated:
        return harness.Task(
            title=f"HT simple: Jacobian, {points:,} points",
            arguments=(theta,),
            contenders={
                harness.OURS: blockjac.jacobian(errors),
                "jacfwd": jax.jacfwd(errors),
                "jacrev": jax.jacrev(errors),
                "the function": errors,
            },
            alike=(harness.OURS, "jacfwd"),
            claims=(harness.Claim(1.0, ("jacfwd", "jacrev")),),
        )
    return harness.Task(
        title=f"HT complicated: Jacobian, {points:,} points",
        arguments=(theta, inside),
        contenders={
            harness.OURS: blockjac.block_jacobian(errors, (0, 1)),
            "jacfwd, compressed by hand": compressed,
            "jacfwd": jax.jacfwd(errors, (0, 1)),
            "the function": errors,
        },
        claims=(harness.Claim(1.0, ("jacfwd, compressed by hand",)), *common["claims"]),
        note="The coordinates of a point move that point alone. Compressed by hand, two tangents "
        "serve all points; `jacfwd` does not know.",
    )


def lstm(layers: int, length: int) -> harness.Task:
    """The gradient of the loss by all parameters."""
    arguments = recurrent.arguments(layers, length)

    def by_torch(*tensors: Any) -> Any:
        import torch

        return recurrent.unrolled_loss(*tensors, xp=torch)

    others = {"torch": gradient_of(by_torch, arguments, 2)} if length <= 256 else {}
    return harness.Task(
        title=f"LSTM: gradient, {layers} layers, {length:,} members",
        arguments=arguments,
        contenders={
            harness.OURS: blockjac.grad(recurrent.loss, (0, 1)),
            "jax.grad": jax.grad(recurrent.loss, (0, 1)),
            "the function": recurrent.loss,
        },
        others=others,
        alike=(harness.OURS, "jax.grad"),
        claims=(harness.Claim(1.0, ("jax.grad", *others)),),
    )


TASKS = {
    "gmm-2": partial(mixture, 1_000, 2, 5),
    "gmm-20": partial(mixture, 1_000, 20, 25),
    "gmm-64": partial(mixture, 1_000, 64, 25),
    **{name: partial(bundle, name) for name in vision.SIZES},
    **{f"ht-simple-{count}": partial(hand, count, False) for count in (100, 12_800)},
    **{f"ht-complicated-{count}": partial(hand, count, True) for count in (100, 12_800)},
    **{
        f"lstm-{layers}-{length}": partial(lstm, layers, length)
        for layers, length in ((2, 128), (2, 1_024), (2, 4_096), (4, 4_096))
    },
}

if __name__ == "__main__":
    harness.main("ADBench: every problem, in the derivative that it asks for", TASKS)
