"""Second derivatives: Hessians and Gauss-Newton matrices from their structure.

By hand, a network's curvature is a sum over the examples of products of small factors; JAX computes
it column by column.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

import blockjac
import harness
import peers
from laplacians import dense_layers, network

EXAMPLES = 400
BY_GRADIENT = "blockjac, by the gradient"
PARAMETERS = (0, 1, 2, 3)
Arrays = tuple[jax.Array, ...]
Function = Callable[..., Any]


def hessian(function: Function, argnums: int | tuple[int, ...] = 0) -> Function:
    """Our Hessian; where there is none of that name, the Jacobian of our gradient."""
    if hasattr(blockjac, "hessian"):
        return blockjac.hessian(function, argnums)
    return blockjac.jacobian(blockjac.grad(function, argnums), argnums)


def logits(W1: jax.Array, b1: jax.Array, W2: jax.Array, b2: jax.Array, X: jax.Array) -> jax.Array:
    """A network of one hidden layer."""
    return jax.nn.sigmoid(X @ W1 + b1) @ W2 + b2


def loss(
    W1: jax.Array, b1: jax.Array, W2: jax.Array, b2: jax.Array, X: jax.Array, Y: jax.Array
) -> jax.Array:
    """Mean cross-entropy of its softmax."""
    return cross_entropy(logits(W1, b1, W2, b2, X), Y)


def cross_entropy(Z: jax.Array, Y: jax.Array) -> jax.Array:
    """Mean cross-entropy of the softmax of each row."""
    return -jnp.mean(jnp.sum(Y * jax.nn.log_softmax(Z), axis=1))


def problem(inputs: int, hidden: int, classes: int) -> Arrays:
    """Parameters, examples and one-hot labels."""
    generator = np.random.default_rng(0)
    shapes = ((inputs, hidden), (1, hidden), (hidden, classes), (1, classes), (EXAMPLES, inputs))
    arrays = [jnp.asarray(0.3 * generator.normal(size=shape)) for shape in shapes]
    labels = generator.integers(classes, size=EXAMPLES)
    return *arrays, jnp.asarray(np.eye(classes)[labels])


def curvature_by_hand(
    W1: jax.Array,
    b1: jax.Array,
    W2: jax.Array,
    b2: jax.Array,
    X: jax.Array,
    Y: jax.Array,
    *,
    gauss_newton: bool = False,
) -> tuple[Arrays, ...]:
    """The Hessian of `loss`, or its Gauss-Newton part, in blocks by parameter.

    With `H = logistic(A)`, `A = X W1 + b1`, and by `Z = H W2 + b2` the gradient `q` and the Hessian
    `S` of an example's loss, the second derivatives by `A`, by `Z` and by both are

        AA = h'_h (W2 S W2')_hk h'_k + delta_hk (W2 q)_h h''_h
        AZ = h'_h (W2 S)_hm
        ZZ = S

    and each side then takes a factor `X` for W1, `H` for W2, nothing for a bias. The term of `h''`,
    and that of `q` in the block of W1 with W2, are what Gauss and Newton leave out.
    """
    n, (h, m) = len(X), W2.shape
    H = jax.nn.sigmoid(X @ W1 + b1)
    Q = jax.nn.softmax(H @ W2 + b2, axis=1)
    S = Q[:, :, None] * (jnp.eye(m) - Q[:, None, :]) / n
    slope = H * (1 - H)
    AZ = slope[:, :, None] * jnp.einsum("hm,nmo->nho", W2, S)
    AA = jnp.einsum("nhm,km->nhk", AZ, W2) * slope[:, None, :]
    mixed = AZ[:, :, None, :] * H[:, None, :, None]
    if not gauss_newton:
        q = (Q - Y) / n
        AA += jnp.eye(h) * (q @ W2.T * slope * (1 - 2 * H))[:, :, None]
        mixed += jnp.eye(h)[:, :, None] * (slope[:, :, None] * q[:, None, :])[:, :, None, :]

    def one_side(left: jax.Array, inner: jax.Array) -> jax.Array:
        """The sum over the examples of `left_i inner_ab`."""
        return (left.T @ inner.reshape(n, -1)).reshape(-1, *inner.shape[1:])

    def both_sides(left: jax.Array, inner: jax.Array) -> jax.Array:
        """The sum over the examples of `left_i inner_ab left_j`, with axes `i, a, j, b`."""
        pairs = (left.T[:, None, :] * left.T).reshape(-1, n)
        total = (pairs @ inner.reshape(n, -1)).reshape(*[left.shape[1]] * 2, *inner.shape[1:])
        return total.transpose(0, 2, 1, 3)

    W1W1 = both_sides(X, AA)
    W1b1 = one_side(X, AA)[:, :, None, :]
    W1W2 = one_side(X, mixed)
    W1b2 = one_side(X, AZ)[:, :, None, :]
    b1b1 = jnp.sum(AA, axis=0)[None, :, None, :]
    b1W2 = jnp.sum(mixed, axis=0)[None]
    b1b2 = jnp.sum(AZ, axis=0)[None, :, None, :]
    W2W2 = both_sides(H, S)
    W2b2 = one_side(H, S)[:, :, None, :]
    b2b2 = jnp.sum(S, axis=0)[None, :, None, :]
    return (
        (W1W1, W1b1, W1W2, W1b2),
        (flipped(W1b1), b1b1, b1W2, b1b2),
        (flipped(W1W2), flipped(b1W2), W2W2, W2b2),
        (flipped(W1b2), flipped(b1b2), flipped(W2b2), b2b2),
    )


def flipped(block: jax.Array) -> jax.Array:
    """The block with its two pairs of axes exchanged."""
    return block.transpose(2, 3, 0, 1)


def torch_loss(torch: Any) -> Function:
    """`loss` in PyTorch."""

    def function(W1: Any, b1: Any, W2: Any, b2: Any, X: Any, Y: Any) -> Any:
        Z = torch.sigmoid(X @ W1 + b1) @ W2 + b2
        return -(Y * torch.log_softmax(Z, 1)).sum(1).mean()

    return function


def network_hessian() -> harness.Task:
    """The Hessian of a small network's loss by all its parameters."""
    arguments = problem(30, 20, 2)
    return harness.Task(
        title=f"Hessian of a network's loss, {EXAMPLES} x 30-20-2, 662 parameters",
        arguments=arguments,
        contenders={
            harness.OURS: hessian(loss, PARAMETERS),
            "jax.hessian": jax.hessian(loss, PARAMETERS),
            "jacrev": jax.jacrev(jax.grad(loss, PARAMETERS), PARAMETERS),
            "by hand": curvature_by_hand,
        },
        others={
            "torch": peers.torch_hessian(torch_loss, arguments, PARAMETERS),
            "asdex": peers.asdex_hessian(loss, arguments, PARAMETERS),
        },
        dense="by hand",
        alike=(harness.OURS, "jax.hessian", "jacrev", "by hand"),
        claims=(
            harness.Claim(1 / 8, ("jax.hessian", "jacrev")),
            harness.Claim(1.05, ("torch", "asdex")),
        ),
    )


def convolved(X: jax.Array, kernel: jax.Array) -> jax.Array:
    """A convolution of images, as large as they are."""
    return jax.lax.conv_general_dilated(
        X, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def denoised(params: Arrays, X: jax.Array) -> jax.Array:
    """A network of two convolutions, from images to images."""
    w, b, v = params
    return convolved(jnp.tanh(convolved(X, w) + b), v)


def our_convolved_diagonal(params: Arrays, X: jax.Array, Y: jax.Array) -> Arrays:
    """The diagonal of the Gauss-Newton matrix of half the squared error."""
    half = lambda Y, Q: 0.5 * jnp.sum((Q - Y) ** 2)  # noqa: E731
    return blockjac.ggn(denoised, half)(params, X, Y).diagonal()


def column_a_pass(params: Arrays, X: jax.Array, Y: jax.Array) -> Arrays:
    """The same in little memory: the derivative by one parameter after the other, squared."""
    del Y
    flat, tree = ravel_pytree(params)
    push = jax.linearize(lambda flat: denoised(tree(flat), X), flat)[1]
    one = lambda place: jnp.sum(push(jnp.zeros_like(flat).at[place].set(1.0)) ** 2)  # noqa: E731
    return tree(jax.lax.map(one, jnp.arange(flat.size)))


def squared_jacobian(params: Arrays, X: jax.Array, Y: jax.Array) -> Arrays:
    """The same from the dense Jacobian, all columns at a time."""
    del Y
    dense = jax.jacfwd(lambda params: denoised(params, X))(params)
    return jax.tree.map(lambda block: jnp.sum(block**2, axis=(0, 1, 2, 3)), dense)


def convolved_diagonal() -> harness.Task:
    """The diagonal of a Gauss-Newton matrix where there are more outputs than parameters."""
    generator = np.random.default_rng(0)
    channels, side, images = 8, 24, 4
    shapes = ((3, 3, 1, channels), (channels,), (3, 3, channels, 1), (images, side, side, 1))
    *params, X = (jnp.asarray(0.3 * generator.normal(size=shape)) for shape in shapes)
    return harness.Task(
        title=f"Diagonal of a GGN of two convolutions, {images} images of {side} x {side}",
        arguments=(tuple(params), X, jnp.zeros_like(X)),
        contenders={
            harness.OURS: our_convolved_diagonal,
            "a column a pass": column_a_pass,
            "jacfwd": squared_jacobian,
        },
        alike=(harness.OURS, "a column a pass", "jacfwd"),
        claims=(harness.Claim(1, ("a column a pass", "jacfwd")),),
    )


def our_ggn(*arguments: jax.Array) -> jax.Array:
    """The Gauss-Newton matrix; where there is no `ggn`, of blocks multiplied by hand."""
    *parameters, X, Y = arguments
    if hasattr(blockjac, "ggn"):

        def model(parameters: Arrays, X: jax.Array) -> jax.Array:
            return logits(*parameters, X)

        matrix = blockjac.ggn(model, lambda Y, Z: cross_entropy(Z, Y))(tuple(parameters), X, Y)
        return matrix.dense()
    row = blockjac.block_jacobian(logits, PARAMETERS)(*parameters, X)
    J = blockjac.BlockMatrix([row])
    inner = blockjac.block_jacobian(blockjac.grad(cross_entropy))(logits(*parameters, X), Y)
    return (J.T @ blockjac.BlockMatrix([[inner]]) @ J).dense()


def ggn_of(jacobian_of_logits: Callable[..., Arrays]) -> Function:
    """`J' S J` summed over the examples, from the dense Jacobian of the logits `(n, m, ...)`."""

    def ggn(*arguments: jax.Array) -> jax.Array:
        *parameters, X, _ = arguments
        Z = logits(*parameters, X)
        blocks = jacobian_of_logits(*parameters, X)
        J = jnp.concatenate([block.reshape(*Z.shape, -1) for block in blocks], axis=2)
        Q = jax.nn.softmax(Z, axis=1)
        S = Q[:, :, None] * (jnp.eye(Q.shape[1]) - Q[:, None, :]) / len(Q)
        weighted = jnp.einsum("nmo,nop->nmp", S, J)
        flat = J.reshape(-1, J.shape[2])
        return flat.T @ weighted.reshape(flat.shape)

    return ggn


def logits_by_row(*arguments: jax.Array) -> Arrays:
    """The Jacobian of each example's logits by all parameters."""
    *parameters, X = arguments

    def row(parameters: Arrays, x: jax.Array) -> jax.Array:
        return logits(*parameters, x[None])[0]

    return jax.vmap(jax.jacrev(row), in_axes=(None, 0))(tuple(parameters), X)


def ggn_by_hand(*arguments: jax.Array) -> jax.Array:
    """The blocks by hand as one matrix."""
    rows = curvature_by_hand(*arguments, gauss_newton=True)
    sizes = [argument.size for argument in arguments[:4]]
    return jnp.block(
        [
            [block.reshape(height, width) for block, width in zip(row, sizes, strict=True)]
            for row, height in zip(rows, sizes, strict=True)
        ]
    )


def gauss_newton() -> harness.Task:
    """The Gauss-Newton matrix of a small network's loss."""
    return harness.Task(
        title=f"Gauss-Newton matrix, {EXAMPLES} x 30-20-10, 830 parameters",
        arguments=problem(30, 20, 10),
        contenders={
            harness.OURS: our_ggn,
            "by vmap(jacrev)": ggn_of(logits_by_row),
            "by jacfwd": ggn_of(jax.jacfwd(logits, PARAMETERS)),
            "by jacrev": ggn_of(jax.jacrev(logits, PARAMETERS)),
            "by hand": ggn_by_hand,
        },
        dense="by hand",
        alike=(harness.OURS, "by vmap(jacrev)", "by jacfwd", "by jacrev", "by hand"),
        claims=(harness.Claim(1 / 6, ("by vmap(jacrev)", "by jacfwd", "by jacrev")),),
    )


def logistic_loss(w: jax.Array, X: jax.Array, y: jax.Array) -> jax.Array:
    """Logistic regression: the mean of `log(1 + exp(-y X w))`, labels 1 and -1."""
    return jnp.mean(jax.nn.softplus(-y * (X @ w)))


def torch_logistic(torch: Any) -> Function:
    """`logistic_loss` in PyTorch."""
    return lambda w, X, y: torch.nn.functional.softplus(-y * (X @ w)).mean()


def logistic_by_hand(w: jax.Array, X: jax.Array, y: jax.Array) -> jax.Array:
    """`X' diag(p (1 - p)) X / n`."""
    p = jax.nn.sigmoid(X @ w)
    return (X.T * (p * (1 - p) / len(X))) @ X


def logistic_numpy(w: np.ndarray, X: np.ndarray) -> np.ndarray:
    """The same in NumPy."""
    p = 1 / (1 + np.exp(-(X @ w)))
    return (X.T * (p * (1 - p) / len(X))) @ X


def logistic_regression() -> harness.Task:
    """The Hessian of logistic regression by its weights."""
    generator = np.random.default_rng(0)
    X, w = generator.normal(size=(2000, 200)), 0.1 * generator.normal(size=200)
    y = np.sign(X @ w + generator.normal(size=2000))
    arguments = jnp.asarray(w), jnp.asarray(X), jnp.asarray(y)
    return harness.Task(
        title="Hessian of logistic regression, 2000 x 200",
        arguments=arguments,
        contenders={
            harness.OURS: hessian(logistic_loss),
            "jax.hessian": jax.hessian(logistic_loss),
            "jacrev": jax.jacrev(jax.grad(logistic_loss)),
            "by hand": logistic_by_hand,
        },
        uncompiled={"NumPy by hand": lambda *_: logistic_numpy(w, X)},
        others={
            "torch": peers.torch_hessian(torch_logistic, arguments),
            "asdex": peers.asdex_hessian(logistic_loss, arguments),
        },
        dense="by hand",
        alike=(harness.OURS, "jax.hessian", "jacrev", "by hand", "NumPy by hand"),
        claims=(
            harness.Claim(1.3, ("NumPy by hand",)),
            harness.Claim(1.05, ("jax.hessian", "jacrev")),
            harness.Claim(1.05, ("torch", "asdex")),
        ),
    )


def quadratic(x: jax.Array, A: jax.Array) -> jax.Array:
    """`x' A x`."""
    return x @ A @ x


def quadratic_form() -> harness.Task:
    """The Hessian of a quadratic form, which does not depend on where it is."""
    generator = np.random.default_rng(0)
    arguments = tuple(jnp.asarray(generator.normal(size=shape)) for shape in (2048, (2048, 2048)))
    return harness.Task(
        title="Hessian of x' A x, n = 2048",
        arguments=arguments,
        contenders={
            harness.OURS: hessian(quadratic),
            "jax.hessian": jax.hessian(quadratic),
            "jacrev": jax.jacrev(jax.grad(quadratic)),
            "by hand": lambda x, A: A + A.T,
        },
        others={
            "torch": peers.torch_hessian(lambda torch: quadratic, arguments),
            "asdex": peers.asdex_hessian(quadratic, arguments),
        },
        dense="by hand",
        alike=(harness.OURS, "jax.hessian", "jacrev", "by hand"),
        claims=(
            harness.Claim(1 / 10, ("jax.hessian",)),
            harness.Claim(1.05, ("torch", "asdex")),
        ),
    )


def softmax_blocks() -> harness.Task:
    """The Hessian of cross-entropy by the logits, one block an example and nothing between them."""
    generator = np.random.default_rng(0)
    Z = jnp.asarray(generator.normal(size=(256, 10)))
    Y = jnp.asarray(np.eye(10)[generator.integers(10, size=256)])
    ours = blockjac.block_jacobian(blockjac.grad(cross_entropy))
    gradient = jax.grad(cross_entropy)
    harness.require_right(jax.jit(ours)(Z, Y), gradient, (Z, Y), 0)

    def by_hand(Z: jax.Array, Y: jax.Array) -> jax.Array:
        Q = jax.nn.softmax(Z, axis=1)
        return Q[:, :, None] * (jnp.eye(10) - Q[:, None, :]) / 256

    def by_row(Z: jax.Array, Y: jax.Array) -> jax.Array:
        return jax.vmap(jax.hessian(lambda z, y: cross_entropy(z[None], y[None])))(Z, Y) / 256

    return harness.Task(
        title="Hessian of softmax cross-entropy by the logits, 256 x 10, values",
        arguments=(Z, Y),
        contenders={
            harness.OURS: ours,
            "vmap(hessian)": by_row,
            "jax.hessian, dense": jax.hessian(cross_entropy),
            "by hand": by_hand,
        },
        others={"asdex": peers.asdex_hessian(cross_entropy, (Z, Y), values=True)},
        dense="by hand",
        claims=(
            harness.Claim(1.5, ("by hand",)),
            harness.Claim(1.05, ("vmap(hessian)", "asdex")),
        ),
        note="The block is checked against `jax.jvp` of the gradient.",
    )


def by_point(function: Function) -> Function:
    """A function of a point, at each of many, with the same further arguments."""
    return lambda points, *others: jax.vmap(lambda x: function(x, *others))(points)


def by_inputs(sizes: tuple[int, ...], points: int) -> harness.Task:
    """The Hessian of a network of tanh by its inputs."""
    generator = np.random.default_rng(1)
    layers = dense_layers(sizes)
    arguments = jnp.asarray(generator.normal(size=(points, sizes[0]))), layers
    name = "-".join(map(str, sizes))
    return harness.Task(
        title=f"Hessians of a network {name} of tanh by its inputs, {points:,} points",
        arguments=arguments,
        contenders={
            "jax.hessian": by_point(jax.hessian(network)),
            harness.OURS: by_point(blockjac.hessian(network)),
            BY_GRADIENT: by_point(blockjac.hessian(network, order="reverse")),
            "jacrev": by_point(jax.jacrev(jax.grad(network))),
        },
        alike=(harness.OURS, "jax.hessian", BY_GRADIENT, "jacrev"),
        claims=(harness.Claim(1.0, ("jax.hessian", "jacrev")),),
        note="By the gradient: the other of the two ways that are compared, in reverse order.",
    )


def pairs_of_particles() -> harness.Task:
    """The Hessian of an energy of pairs of particles by all coordinates."""
    first, second = np.triu_indices(64, 1)

    def energy(flat: jax.Array) -> jax.Array:
        x = flat.reshape(-1, 3)
        return jnp.sum(jnp.exp(-jnp.sum((x[first] - x[second]) ** 2, axis=-1)))

    arguments = (jnp.asarray(np.random.default_rng(1).normal(size=192)),)
    return harness.Task(
        title="Hessian of gaussians of the distances of 64 particles, i < j",
        arguments=arguments,
        contenders={
            "jax.hessian": jax.hessian(energy),
            harness.OURS: blockjac.hessian(energy),
            BY_GRADIENT: blockjac.hessian(energy, order="reverse"),
            "jacrev": jax.jacrev(jax.grad(energy)),
        },
        alike=(harness.OURS, "jax.hessian", BY_GRADIENT, "jacrev"),
        claims=(harness.Claim(0.1, ("jax.hessian", "jacrev")),),
    )


TASKS = {
    "network": network_hessian,
    "inputs": partial(by_inputs, (48, 256, 256, 256, 256, 1), 16),
    "field": partial(by_inputs, (3, 64, 64, 64, 64, 1), 1024),
    "pairs": pairs_of_particles,
    "gauss-newton": gauss_newton,
    "convolutions": convolved_diagonal,
    "logistic": logistic_regression,
    "quadratic": quadratic_form,
    "softmax": softmax_blocks,
}

if __name__ == "__main__":
    harness.main("Second derivatives from their structure", TASKS)
