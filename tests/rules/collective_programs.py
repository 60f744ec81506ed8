"""Functions with collectives on eight forced CPU devices, against JAX; run by test_collectives.

Prints a JSON object: for each case what differs from JAX, or "".
"""

import json
import os
import sys

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import blockjac
from blockjac.base import compat

jax.config.update("jax_enable_x64", True)

MESHES = {
    kind: jax.make_mesh((8,), ("i",), axis_types=(getattr(AxisType, kind),))
    for kind in ("Auto", "Explicit")
}
RING = [(k, (k + 1) % 8) for k in range(8)]
X = jnp.asarray(np.random.default_rng(0).normal(size=(16, 3)))
W = jnp.array([0.3, -0.5, 1.1])


def stacked(values, axis=0):
    return jnp.concatenate([values] * 4, axis) * jnp.arange(8.0)[:, None]


LOSSES = {
    "none": lambda w, x: jnp.sum(jnp.tanh(x @ w) ** 2),
    "psum": lambda w, x: lax.psum(jnp.sum(jnp.tanh(x @ w) ** 2), "i") ** 2,
    "pmean": lambda w, x: lax.pmean(jnp.sum(jnp.tanh(x @ w) ** 2), "i") ** 2,
    "psum of a vector": lambda w, x: jnp.sum(lax.psum(jnp.tanh(x * w), "i") ** 3),
    "pcast": lambda w, x: jnp.sum(jnp.sin(lax.pcast(w, "i", to="varying") * x)),
    "ppermute": lambda w, x: jnp.sum(lax.ppermute(jnp.tanh(x * w), "i", RING) * x),
    "ppermute of some": lambda w, x: jnp.sum(lax.ppermute(x * w, "i", [(0, 3), (1, 0)]) * x**2),
    "all_gather": lambda w, x: jnp.sum(lax.all_gather(jnp.tanh(x * w), "i") ** 3),
    "all_gather, tiled": lambda w, x: jnp.sum(
        lax.all_gather(jnp.tanh(x * w), "i", tiled=True, axis=1) ** 3
    ),
    "all_to_all": lambda w, x: jnp.sum(
        (lax.all_to_all(stacked(x * w), "i", 0, 0, tiled=True) * jnp.arange(8.0)[:, None]) ** 2
    ),
    "psum_scatter": lambda w, x: jnp.sum(lax.psum_scatter(stacked(x * w), "i", tiled=True) ** 2),
    "a factor of its own on each device": lambda w, x: jnp.sum(x @ w) * lax.axis_index("i"),
    "pmax": lambda w, x: lax.pmax(jnp.sum(x @ w), "i"),
    "softmax": lambda w, x: -jnp.sum(jax.nn.log_softmax(x * w)[:, 0]),
    "relu": lambda w, x: jnp.sum(jax.nn.relu(x * w) ** 2),
    "sort": lambda w, x: jnp.sum(jnp.sort(x * w, 0)[0] ** 2),
    "scan": lambda w, x: jnp.sum(
        lax.scan(lambda c, v: (jnp.tanh(c * w + v), c), jnp.zeros(3) + 0 * x[0], x)[0]
    ),
    "scan of what is alike": lambda w, x: (
        jnp.sum(lax.scan(lambda c, _: (jnp.tanh(c * w), None), w, None, 3)[0]) * jnp.sum(x)
    ),
    "map": lambda w, x: jnp.sum(lax.map(lambda v: jnp.sin(v * w), x)),
    "cond": lambda w, x: lax.cond(
        x[0, 0] > 0, lambda: jnp.sum(x @ w), lambda: jnp.sum(jnp.sin(x) @ w)
    ),
    "checkpoint": lambda w, x: jnp.sum(jax.checkpoint(lambda w, x: jnp.sin(x @ w))(w, x)),
    "cholesky": lambda w, x: jnp.sum(jnp.linalg.cholesky(x.T @ x + jnp.diag(w**2) + jnp.eye(3))),
    "solve": lambda w, x: jnp.sum(jnp.linalg.solve(x.T @ x + jnp.diag(w**2), w)),
    "complex": lambda w, x: jnp.sum(jnp.abs(lax.psum(x * w * (1 + 2j), "i")) ** 2),
}


THOROUGHLY = ("psum of a vector",)
"""Losses of every transform; the others are differentiated once."""


def forwards(module, loss):
    if module is jax:
        return jax.jacfwd(loss, (0, 1))
    return blockjac.jacobian(loss, (0, 1), order="forward")


def backwards(module, loss):
    return (jax.jacrev if module is jax else blockjac.jacobian)(loss, (0, 1))


def divergence(module, loss, order="auto"):
    """Of a field whose entries all move with the loss."""

    def field(w, x):
        return loss(w, x) * w

    if module is jax:
        return lambda w, x: jnp.trace(jax.jacrev(field)(w, x))
    return blockjac.divergence(field, order=order)


def norms(module, loss, order="auto"):
    """Of losses of which each meets the examples of all devices."""

    def losses(w, x):
        return loss(w, x) * jnp.tanh(x @ w)

    if module is jax:
        return lambda w, x: jnp.sqrt(jnp.sum(jax.jacrev(losses)(w, x) ** 2, axis=1))
    return blockjac.per_example_norms(losses, order=order)


LOCAL = {
    "grad": lambda module, loss: module.grad(loss, (0, 1)),
    "vjp": lambda module, loss: lambda w, x: module.vjp(loss, w, x)[1](loss(w, x)),
    "jvp": lambda module, loss: lambda w, x: module.jvp(loss, (w, x), (w * 2, x)),
    "forwards": forwards,
    "backwards": backwards,
    "divergence": divergence,
    "divergence forwards": lambda module, loss: divergence(module, loss, "forward"),
    "norms": norms,
    "norms forwards": lambda module, loss: norms(module, loss, "forward"),
    "vectors": lambda module, loss: backwards(module, lambda w, x: loss(w, x) * w),
    "second": lambda module, loss: module.grad(
        lambda w, x: jnp.sum(module.grad(loss)(w, x) ** 2), (0, 1)
    ),
}


def locally(transform, module, loss, check_vma):
    """What a transform gives on each device, stacked."""

    def body(w, x):
        answer = transform(module, loss)(w, x)
        return jax.tree.map(lambda leaf: varying(leaf, check_vma)[None], answer)

    return jax.jit(mapped(body, "Auto", check_vma))(W, X)


def varying(leaf, check_vma):
    known = "i" in compat.varying_axes(leaf)
    return lax.pcast(leaf, "i", to="varying") if check_vma and not known else leaf


def mapped(body, mesh, check_vma):
    shards = (PartitionSpec(), PartitionSpec("i"))
    return jax.shard_map(
        body, mesh=MESHES[mesh], in_specs=shards, out_specs=PartitionSpec("i"), check_vma=check_vma
    )


def outside(module, loss, mesh, check_vma):
    """The gradient of a function that holds a shard_map."""
    inner = mapped(lambda w, x: varying(loss(w, x), check_vma)[None], mesh, check_vma)
    w = jax.device_put(W, NamedSharding(MESHES[mesh], PartitionSpec()))
    x = jax.device_put(X, NamedSharding(MESHES[mesh], PartitionSpec("i")))
    return jax.jit(module.grad(lambda w, x: jnp.sum(inner(w, x) ** 2), (0, 1)))(w, x)


def outcome(call):
    """The leaves of the answer, or the type of what JAX and we refuse alike."""
    try:
        return [np.asarray(leaf) for leaf in jax.tree.leaves(call())]
    except (NotImplementedError, TypeError, ValueError) as error:
        return f"{type(error).__name__}: {str(error)[:40]}"


def difference(found, wanted):
    if isinstance(wanted, str) or isinstance(found, str):
        return "" if str(found) == str(wanted) else f"{found} instead of {wanted}"
    for own, other in zip(found, wanted, strict=True):
        if own.shape != other.shape or not np.allclose(own, other, rtol=1e-11, atol=1e-11):
            return f"{own} instead of {other}"
    return ""


def cases():
    for name, loss in LOSSES.items():
        kinds = LOCAL if name in THOROUGHLY else ("grad",)
        for kind in kinds:
            for check_vma in (True, False) if name in THOROUGHLY else (True,):
                yield (
                    f"{name}, {kind}, check_vma={check_vma}",
                    lambda module, t=LOCAL[kind], f=loss, c=check_vma: locally(t, module, f, c),
                )
    for mesh, check_vma in (("Auto", True), ("Explicit", True), ("Auto", False)):
        yield (
            f"around psum, {mesh}, check_vma={check_vma}",
            lambda module, m=mesh, c=check_vma: outside(module, LOSSES["psum"], m, c),
        )


def stored():
    """How many numbers the blocks of a collective store on each device: deltas stay."""
    counts = {}

    def body(x):
        for name, collective in {
            "ppermute": lambda x: lax.ppermute(jnp.sin(x), "i", RING),
            "psum": lambda x: jnp.sin(lax.psum(jnp.sin(x), "i")),
            "all_gather": lambda x: lax.all_gather(jnp.sin(x), "i", tiled=True, axis=1),
        }.items():
            counts[name] = blockjac.block_jacobian(collective)(x).stored
        return x

    shards = PartitionSpec("i")
    jax.eval_shape(jax.shard_map(body, mesh=MESHES["Auto"], in_specs=shards, out_specs=shards), X)
    return counts


if __name__ == "__main__":
    differences = {
        name: difference(outcome(lambda c=call: c(blockjac)), outcome(lambda c=call: c(jax)))
        for name, call in cases()
    }
    sys.stdout.write(json.dumps({"differences": differences, "stored": stored()}))
