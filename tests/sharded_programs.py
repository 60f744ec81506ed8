"""Transforms at arguments sharded by rows on a mesh with explicit axes; run by test_sharded.py.

Prints a JSON object: for each case what differs from the same call on one device, or "".
"""

import json
import os
import sys

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4"

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

import blockjac

jax.config.update("jax_enable_x64", True)

RNG = np.random.default_rng(0)
MESH = jax.make_mesh((4,), ("data",))  # explicit axes, as make_mesh has them by default
ROWS, WHOLE = NamedSharding(MESH, PartitionSpec("data")), NamedSharding(MESH, PartitionSpec())
X, Y = RNG.normal(size=(8, 3)), RNG.normal(size=(8, 2))
PARAMS = {"W": RNG.normal(size=(3, 5)), "b": RNG.normal(size=5), "V": RNG.normal(size=(5, 2))}


def model(params, X):
    return jnp.tanh(X @ params["W"] + params["b"]) @ params["V"]


def square_loss(Y, Q):
    return jnp.mean((Q - Y) ** 2)


def loss(params, X, Y):
    return square_loss(Y, model(params, X))


def losses(params, X, Y):
    return jnp.sum((model(params, X) - Y) ** 2, axis=1)


def softmax_loss(params, X, Y):
    return -jnp.mean(jnp.sum(jax.nn.softmax(Y) * jax.nn.log_softmax(model(params, X)), axis=1))


def convolution_losses(params, X, Y):
    """In two dimensions; the kernel of each example by itself is what XLA may divide wrongly."""
    images = jnp.tanh(X)[:, :, None] * jnp.concatenate([Y, jnp.sin(Y)], axis=1)[:, None]
    kernel = params["W"][None, :, None, :]
    out = jax.lax.conv_general_dilated(
        images[..., None], kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return jnp.sum(jnp.sin(out), axis=(1, 2, 3))


def matrix_product(params, X, Y):
    ggn = blockjac.ggn(model, square_loss)(params, X, Y)
    return ggn.matvec(params), ggn.diagonal()


def by_inputs(transform):
    """A transform of the model's sum by its inputs, inside of `shard_map`."""

    def call(params, X, Y):
        each = lambda X: jax.vmap(transform(lambda x: jnp.sum(model(PARAMS, x))))(X)  # noqa: E731
        if jax.typeof(X).sharding.mesh.empty:
            return each(X)
        rows = PartitionSpec("data")
        return jax.shard_map(each, in_specs=rows, out_specs=rows)(X)

    return call


COORDINATES = {"x": (1, 0), "y": (1, 1)}

CASES = {
    "chosen derivatives": lambda params, X, Y: blockjac.partial_derivatives(
        model, ["x", "xy", "xxyy"], coordinates=COORDINATES
    )(params, X),
    "hessians inside": by_inputs(blockjac.hessian),
    "laplacians inside": by_inputs(blockjac.laplacian),
    "chosen inside": by_inputs(
        lambda fun: blockjac.partial_derivatives(fun, "xxy", coordinates={"x": (0, 0), "y": (0, 1)})
    ),
    "grad": blockjac.grad(loss),
    "grad of softmax": blockjac.grad(softmax_loss),
    "grad by the data": blockjac.grad(loss, argnums=1),
    "value_and_grad": blockjac.value_and_grad(loss),
    "jacobian": lambda params, X, Y: blockjac.jacobian(model)(params, X),
    "jacobian forwards": lambda params, X, Y: blockjac.jacobian(model, order="forward")(params, X),
    "hessian": blockjac.hessian(loss),
    "hvp": lambda params, X, Y: blockjac.hvp(loss, params, params, X, Y),
    "ggn": matrix_product,
    "norms": blockjac.per_example_norms(losses),
    "clipped": blockjac.clipped_grad(losses, 1.0),
    "kernel": lambda params, X, Y: blockjac.ntk(model)(params, X),
    "clipped convolutions": blockjac.clipped_grad(convolution_losses, 1.0),
    "per example": lambda params, X, Y: jax.tree.map(
        lambda block: block.dense(),
        blockjac.per_example_grad(losses)(params, X, Y),
        is_leaf=lambda node: isinstance(node, blockjac.Block),
    ),
    "batch_jacobian": lambda params, X, Y: blockjac.batch_jacobian(lambda X: model(params, X))(X),
}


def difference(found, wanted):
    for own, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        if own.shape != other.shape or not np.allclose(own, other, rtol=1e-11, atol=1e-12):
            return f"{own} instead of {other}"
    return ""


def outcome(call, jitted):
    """What a call on the mesh differs by."""
    wanted = call(PARAMS, X, Y)
    with jax.set_mesh(MESH):
        params = jax.device_put(PARAMS, WHOLE)
        rows = [jax.device_put(array, ROWS) for array in (X, Y)]
        try:
            found = (jax.jit(call) if jitted else call)(params, *rows)
        except Exception as error:  # reported by name
            return f"{type(error).__name__}: {str(error)[:300]}"
    return difference(found, wanted)


if __name__ == "__main__":
    differences = {
        f"{name}, {'jit' if jitted else 'plain'}": outcome(call, jitted)
        for name, call in CASES.items()
        for jitted in (False, True)
    }
    sys.stdout.write(json.dumps(differences))
