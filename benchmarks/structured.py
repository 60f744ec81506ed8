"""Structured answers: sparse arrays, diagonals, per-example gradients and curvature in blocks.

The dense answer is what JAX gives; the peers that know sparse ones find the places by
interpretation and the values by coloured passes. A Block has both from the operations.
"""

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import blockjac
import gradients
import harness
import peers
import stencils

Arrays = tuple[jax.Array, ...]
Function = Callable[..., Any]

CONDENSED = 1 / 3
"""Of the time of the peers that colour, for a stencil's sparse array."""


def sparse_array(
    title: str,
    function: stencils.Function,
    x: jax.Array,
    places: np.ndarray,
    limit: float = CONDENSED,
) -> harness.Task:
    """The values and their places, inside the user's jit."""
    ours = blockjac.block_jacobian(function)
    harness.require_right(jax.jit(ours)(x), function, (x,), 0)
    count = len(places)
    sparsejac = {
        f"sparsejac {name}": peers.sparsejac_values(function, places, x.shape, method, sparse=True)
        for name, method in (("forward", "jacfwd"), ("reverse", "jacrev"))
    }

    def filled(x: jax.Array) -> Any:
        value = x.ravel()[0]
        return function(x), jnp.full(count, value), jnp.full((count, 2), value.astype(jnp.int32))

    return harness.Task(
        title=f"{title}, as a sparse array",
        arguments=(x,),
        contenders={
            harness.OURS: lambda x: ours(x).to_bcoo(),
            "the function, and filling": filled,
        },
        others={**sparsejac, "asdex": peers.asdex_jacobian(function, (x,), sparse=True)},
        claims=(
            harness.Claim(1.5, ("the function, and filling",)),
            harness.Claim(limit, (*sparsejac, "asdex")),
        ),
        note=f"{count:,} values with rows and columns, a `BCOO` of JAX.",
    )


def differences() -> harness.Task:
    """The square of each difference of neighbours."""
    x = jnp.asarray(np.random.default_rng(0).normal(size=8192))
    places = stencils.difference_pattern(8192)
    return sparse_array("(x[1:] - x[:-1])^2, n = 8192", stencils.squared_differences, x, places)


def brusselator(boundary: str) -> harness.Task:
    """A reaction with diffusion on a grid of 64 x 64."""
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 64, 64)))
    function = partial(stencils.brusselator, stencils.LAPLACIANS[boundary])
    places = stencils.brusselator_pattern(64, boundary)
    return sparse_array(f"Brusselator by {boundary}, 2 x 64 x 64", function, x, places)


def long_differences(n: int) -> harness.Task:
    """The squares of differences of very many numbers, in a Block."""
    x = jnp.asarray(np.random.default_rng(0).normal(size=n))
    function = stencils.squared_differences
    return harness.Task(
        title=f"(x[1:] - x[:-1])^2, n = {n:,}, values",
        arguments=(x,),
        contenders={
            harness.OURS: blockjac.block_jacobian(function),
            "the function, and filling": lambda x: (function(x), jnp.full(2 * (n - 1), x[0])),
        },
        claims=(harness.Claim(1.5, ("the function, and filling",)),),
    )


def for_scipy() -> harness.Task:
    """The matrix that a solver of scipy is given, from an un-jitted call."""
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 64, 64)))
    function = partial(stencils.brusselator, stencils.round_laplacian)
    ours = blockjac.sparse_jacobian(jax.jit(function))

    def from_asdex() -> Function:
        import asdex
        from scipy import sparse

        def flat(x: jax.Array) -> jax.Array:
            return function(x.reshape(2, 64, 64)).ravel()

        computed = jax.jit(asdex.jacobian(flat, x.ravel(), output_format="bcoo"))

        def matrix(x: jax.Array) -> Any:
            found = computed(x.ravel())
            places = np.asarray(found.indices).T
            return sparse.coo_array((np.asarray(found.data), tuple(places)), found.shape).tocsr()

        return matrix

    return harness.Task(
        title="Brusselator by roll, 2 x 64 x 64, as a CSR array of scipy",
        arguments=(x,),
        contenders={},
        uncompiled={harness.OURS: ours},
        others={"asdex": harness.Peer(from_asdex, compiled=False, alike=False)},
        claims=(harness.Claim(1.05, ("asdex",)),),
        note="Called from Python, as a solver calls it; the function is jitted.",
    )


def factorisation_loss(U: jax.Array, V: jax.Array, M: jax.Array, R: jax.Array) -> jax.Array:
    """The squared error of `U V'` where a rating is known: M is 1 there and 0 elsewhere."""
    return jnp.sum((M * (U @ V.T - R)) ** 2)


def asdex_factorisation(arguments: Arrays) -> Function:
    """The values by coloured products, of U and V as one vector, M and R fixed."""
    import asdex

    U, V, M, R = arguments

    def flat(x: jax.Array) -> jax.Array:
        return factorisation_loss(*jnp.split(x.reshape(-1, U.shape[1]), [len(U)]), M, R)

    computed = asdex.hessian(flat, jnp.concatenate([U.ravel(), V.ravel()]), output_format="bcoo")
    return lambda U, V, M, R: computed(jnp.concatenate([U.ravel(), V.ravel()])).data


def factorisation() -> harness.Task:
    """The Hessian of a masked matrix factorisation, in blocks."""
    generator = np.random.default_rng(0)
    U, V = (jnp.asarray(generator.normal(size=(200, 10))) for _ in range(2))
    M = jnp.asarray(generator.random((200, 200)) < 0.1, float)
    R = jnp.asarray(generator.normal(size=(200, 200)))
    arguments = (U, V, M, R)

    def by_hand(U: jax.Array, V: jax.Array, M: jax.Array, R: jax.Array) -> Any:
        known = M**2
        residual = known * (U @ V.T - R)
        by_users = 2 * jnp.einsum("um,mk,ml->ukl", known, V, V)
        by_items = 2 * jnp.einsum("um,uk,ul->mkl", known, U, U)
        return by_users, by_items, 2 * known, 2 * residual

    return harness.Task(
        title="Hessian of a masked matrix factorisation, 200 x 200, k = 10, in blocks",
        arguments=arguments,
        contenders={
            harness.OURS: blockjac.block_hessian(factorisation_loss, (0, 1)),
            "dense by jax.hessian": jax.hessian(factorisation_loss, (0, 1)),
            "by hand": by_hand,
        },
        others={"asdex": harness.Peer(lambda: asdex_factorisation(arguments), alike=False)},
        claims=(
            harness.Claim(1 / 3, ("asdex",)),
            harness.Claim(1.5, ("by hand",)),
        ),
    )


def example_arguments(n: int = 512) -> Arrays:
    """Parameters of 30-64-10, examples and one-hot labels."""
    generator = np.random.default_rng(0)
    shapes = ((30, 64), (1, 64), (64, 10), (1, 10), (n, 30))
    arrays = [jnp.asarray(0.3 * generator.normal(size=shape)) for shape in shapes]
    return *arrays, jnp.asarray(np.eye(10)[generator.integers(10, size=n)])


def by_example(*arguments: jax.Array) -> Arrays:
    """The gradient of each example's loss by vmap."""
    *params, X, Y = arguments

    def loss(params: Any, x: jax.Array, y: jax.Array) -> jax.Array:
        return gradients.example_losses(*params, x[None], y[None])[0]

    return jax.vmap(jax.grad(loss), in_axes=(None, 0, 0))(tuple(params), X, Y)


def flat_by_example(*arguments: jax.Array) -> jax.Array:
    """The same as one array `(N, parameters)`."""
    parts = by_example(*arguments)
    return jnp.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)


PARAMETERS = (0, 1, 2, 3)
LOSSES = gradients.example_losses


def example_factors() -> harness.Task:
    """The per-example gradients kept in factors, and written out."""
    ours = blockjac.per_example_grad(LOSSES, PARAMETERS)

    def written(*arguments: jax.Array) -> Any:
        return [block.dense() for block in ours(*arguments)]

    def factors_by_hand(*arguments: jax.Array) -> Any:
        W1, b1, W2, b2, X, Y = arguments
        hidden = jax.nn.sigmoid(X @ W1 + b1)
        q = jax.nn.softmax(hidden @ W2 + b2, axis=1) - Y
        return X, q @ W2.T * hidden * (1 - hidden), hidden, q

    return harness.Task(
        title="Gradients of 512 examples, 30-64-10, 2,634 parameters, in factors and dense",
        arguments=example_arguments(),
        contenders={
            harness.OURS: ours,
            "blockjac, dense": written,
            "vmap(grad)": by_example,
            "factors by hand": factors_by_hand,
            "the losses alone": LOSSES,
        },
        dense="vmap(grad)",
        alike=("blockjac, dense", "vmap(grad)"),
        claims=(
            harness.Claim(0.1, ("vmap(grad)",)),
            harness.Claim(0.75, ("vmap(grad)",), "blockjac, dense"),
            harness.Claim(1.05, ("factors by hand",)),
        ),
    )


def example_norms() -> harness.Task:
    """Their norms."""

    def formed(*arguments: jax.Array) -> jax.Array:
        return jnp.sqrt(sum(jnp.sum(part**2, (1, 2)) for part in by_example(*arguments)))

    def written(*arguments: jax.Array) -> Any:
        """What one pays who needs the gradients anyway: they are an answer too."""
        parts = by_example(*arguments)
        return jnp.sqrt(sum(jnp.sum(part**2, (1, 2)) for part in parts)), parts

    return harness.Task(
        title="Norms of the gradients of 512 examples, 30-64-10",
        arguments=example_arguments(),
        contenders={
            harness.OURS: blockjac.per_example_norms(LOSSES, PARAMETERS),
            "norms of vmap(grad)": formed,
            "vmap(grad) and norms": written,
            "the losses alone": LOSSES,
        },
        alike=(harness.OURS, "norms of vmap(grad)"),
        claims=(
            harness.Claim(0.1, ("norms of vmap(grad)",)),
            harness.Claim(0.1, ("vmap(grad) and norms",)),
        ),
    )


def example_gram() -> harness.Task:
    """Their inner products."""

    def formed(*arguments: jax.Array) -> jax.Array:
        flat = flat_by_example(*arguments)
        return flat @ flat.T

    return harness.Task(
        title="Inner products of the gradients of 512 examples, 30-64-10",
        arguments=example_arguments(),
        contenders={
            harness.OURS: blockjac.per_example_gram(LOSSES, PARAMETERS),
            "of vmap(grad)": formed,
        },
        dense="of vmap(grad)",
        alike=(harness.OURS, "of vmap(grad)"),
        claims=(harness.Claim(1.05, ("of vmap(grad)",)),),
    )


def field(x: jax.Array, W1: jax.Array, W2: jax.Array, W3: jax.Array) -> jax.Array:
    """A vector field: a network of two hidden layers."""
    return jnp.tanh(jnp.tanh(x @ W1) @ W2) @ W3


def network(widths: tuple[int, ...]) -> Arrays:
    """A point and the weights of layers."""
    generator = np.random.default_rng(0)
    weights = [
        jnp.asarray(generator.normal(size=(a, b)) / a**0.5) for a, b in itertools.pairwise(widths)
    ]
    return jnp.asarray(generator.normal(size=widths[0])), *weights


def field_divergence() -> harness.Task:
    """The trace of a network's Jacobian, as in a continuous flow."""
    return harness.Task(
        title="Divergence of a network's field, 256-512-512-256",
        arguments=network((256, 512, 512, 256)),
        contenders={
            harness.OURS: blockjac.divergence(field),
            "trace of jacfwd": lambda *a: jnp.trace(jax.jacfwd(field)(*a)),
            "trace of jacrev": lambda *a: jnp.trace(jax.jacrev(field)(*a)),
        },
        alike=(harness.OURS, "trace of jacfwd", "trace of jacrev"),
        claims=(harness.Claim(1.05, ("trace of jacfwd", "trace of jacrev")),),
    )


def potential(x: jax.Array, W1: jax.Array, W2: jax.Array, W3: jax.Array) -> jax.Array:
    """A scalar field: the same network with one output."""
    return jnp.sum(field(x, W1, W2, W3))


def field_laplacian() -> harness.Task:
    """The Laplacian of a network at many points, as in physics."""
    _, *weights = network((64, 128, 128, 1))
    points = jnp.asarray(np.random.default_rng(1).normal(size=(64, 64)))

    def at_points(one: Function) -> Function:
        return jax.vmap(one, in_axes=(0, None, None, None))

    return harness.Task(
        title="Laplacian of a network 64-128-128-1 at 64 points",
        arguments=(points, *weights),
        contenders={
            harness.OURS: at_points(blockjac.laplacian(potential)),
            "trace of jax.hessian": at_points(lambda *a: jnp.trace(jax.hessian(potential)(*a))),
        },
        alike=(harness.OURS, "trace of jax.hessian"),
        claims=(harness.Claim(1.05, ("trace of jax.hessian",)),),
    )


TASKS = {
    "differences": differences,
    "brusselator_roll": partial(brusselator, "roll"),
    "brusselator_pad": partial(brusselator, "pad"),
    **{f"differences_{n}": partial(long_differences, n) for n in (10**5, 10**6, 10**7)},
    "scipy": for_scipy,
    "factorisation": factorisation,
    "example_factors": example_factors,
    "example_norms": example_norms,
    "example_gram": example_gram,
    "divergence": field_divergence,
    "laplacian": field_laplacian,
}

if __name__ == "__main__":
    harness.main("Structured answers", TASKS)
