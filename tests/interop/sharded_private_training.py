"""Sums of clipped gradients of a sharded batch on four devices; run by test_private_training.py.

Prints a JSON object: for each case what is wrong, or "".
"""

import json
import os
import sys

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4"

import jax
import jax.numpy as jnp
import jax_privacy
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from blockjac import interop

jax.config.update("jax_enable_x64", True)

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(8, 3)), RNG.normal(size=(8, 2))
PARAMS = {"W": RNG.normal(size=(3, 4)), "V": RNG.normal(size=(4, 2))}
AUTO = jax.make_mesh((2, 2), ("data", "model"), axis_types=(AxisType.Auto, AxisType.Auto))
EXPLICIT = jax.make_mesh((4,), ("data",))
HIDDEN = NamedSharding(AUTO, PartitionSpec(None, "model"))
OPTIONS = {"l2_clip_norm": 0.5, "batch_argnums": (1, 2), "return_grad_norms": True}


def loss(params, X, Y, constrain=lambda hidden: hidden):
    return jnp.mean((constrain(jnp.tanh(X @ params["W"])) @ params["V"] - Y) ** 2)


def constrained(params, X, Y):
    return loss(params, X, Y, lambda hidden: jax.lax.with_sharding_constraint(hidden, HIDDEN))


def placed(mesh, X):
    batch, whole = (NamedSharding(mesh, PartitionSpec(axis)) for axis in ("data", None))
    return (
        jax.device_put(PARAMS, whole),
        jax.device_put(X, batch),
        jax.device_put(Y, batch),
    )


def differences(found, wanted):
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        if not np.allclose(one, other, rtol=1e-9, atol=1e-12, equal_nan=True):
            return f"{one} != {other}"
    return ""


def constraint(X):
    """A constraint within the loss, of each example of a sharded batch."""
    options = {**OPTIONS, "spmd_axis_name": "data"}
    program = jax.jit(interop.clipped_grad(constrained, **options))
    args = placed(AUTO, X)
    text = str(jax.make_jaxpr(program)(*args))
    if "spec=P('data', None, 'model')" not in text:
        return "the constraint is not in the program"
    return differences(program(*args), jax_privacy.clipped_grad(loss, **OPTIONS)(PARAMS, X, Y))


def explicit(X):
    """A batch on a mesh with explicit axes."""
    program = jax.jit(interop.clipped_grad(loss, **OPTIONS))
    with jax.set_mesh(EXPLICIT):
        found = program(*placed(EXPLICIT, X))
    return differences(found, jax_privacy.clipped_grad(loss, **OPTIONS)(PARAMS, X, Y))


NOT_FINITE = X.copy()
NOT_FINITE[3] = np.nan
CASES = {
    "constraint": lambda: constraint(X),
    "constraint, not finite": lambda: constraint(NOT_FINITE),
    "explicit": lambda: explicit(X),
    "explicit, not finite": lambda: explicit(NOT_FINITE),
}

if __name__ == "__main__":
    json.dump({name: case() for name, case in CASES.items()}, sys.stdout)
