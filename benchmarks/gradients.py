"""Gradients of networks in float32: no slower than jax.grad, and beside PyTorch."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import blockjac
import harness
import peers
from real_programs import networks

Params = dict[str, jax.Array]
Loss = Callable[[Params, jax.Array, jax.Array], jax.Array]


class Normal:
    """Arrays of normally distributed float32 numbers, the same in every run."""

    def __init__(self) -> None:
        self.generator = np.random.default_rng(0)

    def __call__(self, *shape: int, scale: float = 1.0) -> jax.Array:
        """An array of the shape."""
        return jnp.asarray(scale * self.generator.normal(size=shape), jnp.float32)

    def layer(self, *shape: int) -> jax.Array:
        """Weights of a layer whose last axis is its output."""
        return self(*shape, scale=float(np.prod(shape[:-1])) ** -0.5)

    def labels(self, count: int, classes: int) -> jax.Array:
        """One-hot labels."""
        chosen = self.generator.integers(classes, size=count)
        return jnp.asarray(np.eye(classes)[chosen], jnp.float32)


def cross_entropy(logits: jax.Array, target: jax.Array) -> jax.Array:
    """Mean cross-entropy of the softmax of each row."""
    return -jnp.mean(jnp.sum(target * jax.nn.log_softmax(logits), axis=-1))


def perceptron_loss(params: Params, X: jax.Array, Y: jax.Array) -> jax.Array:
    """Two hidden layers of relu."""
    hidden = jax.nn.relu(X @ params["W1"] + params["b1"])
    hidden = jax.nn.relu(hidden @ params["W2"] + params["b2"])
    return cross_entropy(hidden @ params["W3"] + params["b3"], Y)


def convolution_loss(params: Params, images: jax.Array, Y: jax.Array) -> jax.Array:
    """Two convolutions of 3 x 3, each with relu and a maximum over 2 x 2, and a layer."""
    x = images
    for kernel, bias in (("K1", "b1"), ("K2", "b2")):
        x = jax.nn.relu(networks.convolution(x, params[kernel]) + params[bias])
        x = jax.lax.reduce_window(
            x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), padding="VALID"
        )
    return cross_entropy(x.reshape(len(x), -1) @ params["W"] + params["b"], Y)


def transformer_loss(params: list[Params], x: jax.Array, target: jax.Array) -> jax.Array:
    """Mean squared error of one transformer block after the other."""
    for block in params:
        x = networks.transformer_block(block, x)
    return jnp.mean((x - target) ** 2)


def torch_perceptron(torch: Any) -> Callable[..., Any]:
    """`perceptron_loss` in PyTorch."""

    def loss(params: dict[str, Any], X: Any, Y: Any) -> Any:
        hidden = torch.relu(X @ params["W1"] + params["b1"])
        hidden = torch.relu(hidden @ params["W2"] + params["b2"])
        return torch.nn.functional.cross_entropy(hidden @ params["W3"] + params["b3"], Y)

    return loss


def torch_convolution(torch: Any) -> Callable[..., Any]:
    """`convolution_loss` in PyTorch, of images and kernels laid out as there: channels first."""
    functions = torch.nn.functional

    def loss(params: dict[str, Any], images: Any, Y: Any) -> Any:
        x = images
        for kernel, bias in (("K1", "b1"), ("K2", "b2")):
            x = torch.relu(functions.conv2d(x, params[kernel], params[bias], padding=1))
            x = functions.max_pool2d(x, 2)
        x = x.permute(0, 2, 3, 1).reshape(len(x), -1)
        return functions.cross_entropy(x @ params["W"] + params["b"], Y)

    return loss


def torch_transformer(torch: Any) -> Callable[..., Any]:
    """`transformer_loss` in PyTorch."""
    functions = torch.nn.functional

    def block(params: dict[str, Any], x: Any) -> Any:
        width, length = x.shape[2], x.shape[1]
        inputs = functions.layer_norm(x, (width,), params["scale_1"], params["shift_1"], 1e-5)
        heads = [
            torch.einsum("blw,whd->bhld", inputs, params[name])
            for name in ("queries", "keys", "values")
        ]
        attended = functions.scaled_dot_product_attention(*heads, is_causal=length > 1)
        x = x + torch.einsum("bhld,hdw->blw", attended, params["projection"])
        inputs = functions.layer_norm(x, (width,), params["scale_2"], params["shift_2"], 1e-5)
        hidden = functions.gelu(inputs @ params["W_1"] + params["b_1"], approximate="tanh")
        return x + hidden @ params["W_2"] + params["b_2"]

    def loss(params: list[dict[str, Any]], x: Any, target: Any) -> Any:
        for one in params:
            x = block(one, x)
        return ((x - target) ** 2).mean()

    return loss


def torch_gradient(
    make_loss: Callable[[Any], Callable[..., Any]], arguments: tuple[Any, ...]
) -> harness.Peer:
    """The gradient by PyTorch's tape, of tensors laid out as PyTorch wants them.

    Arrays of four axes that are images or kernels get their channels first; the gradients are
    given back in our layout, as views.
    """

    def make() -> Callable[..., Any]:
        torch = peers.torch_module()

        def tensor(path: Any, leaf: jax.Array) -> Any:
            value = peers.tensor_of(leaf)
            order = _torch_order(path, leaf)
            return value.permute(order).contiguous() if order else value

        params, *data = (jax.tree_util.tree_map_with_path(tensor, one) for one in arguments)
        loss = make_loss(torch)
        leaves = [leaf.requires_grad_() for leaf in jax.tree.leaves(params)]
        paths, _ = jax.tree_util.tree_flatten_with_path(arguments[0])

        def gradient(*_: Any) -> list[Any]:
            found = torch.autograd.grad(loss(params, *data), leaves)
            return [
                one.permute(*np.argsort(order).tolist()) if (order := _torch_order(*path)) else one
                for one, path in zip(found, paths, strict=True)
            ]

        return peers.waited_for(gradient)

    return harness.Peer(make, compiled=False)


def _torch_order(path: Any, leaf: jax.Array) -> tuple[int, ...] | None:
    """Kernels `(y, x, in, out)` as `(out, in, y, x)`; images `(n, y, x, c)` as `(n, c, y, x)`."""
    if leaf.ndim != 4:
        return None
    return (3, 2, 0, 1) if path else (0, 3, 1, 2)


def task(
    title: str,
    loss: Callable[..., jax.Array],
    make_torch: Callable[[Any], Callable[..., Any]],
    make_arguments: Callable[[], tuple[Any, ...]],
) -> harness.Task:
    """The gradient of one network's loss by all its parameters."""
    arguments = make_arguments()
    return harness.Task(
        title=f"Gradient of a {title}, float32",
        arguments=arguments,
        contenders={harness.OURS: blockjac.grad(loss), "jax.grad": jax.grad(loss)},
        others={"torch": torch_gradient(make_torch, arguments)},
        dense="jax.grad",
        alike=(harness.OURS, "jax.grad"),
        claims=(harness.Claim(1.05, ("jax.grad",)), harness.Claim(1.05, ("torch",))),
    )


def perceptron_arguments() -> tuple[Any, ...]:
    """784-512-512-10, batch 256."""
    normal = Normal()
    params = {
        "W1": normal.layer(784, 512),
        "W2": normal.layer(512, 512),
        "W3": normal.layer(512, 10),
        "b1": normal(512),
        "b2": normal(512),
        "b3": normal(10),
    }
    return params, normal(256, 784), normal.labels(256, 10)


def convolution_arguments() -> tuple[Any, ...]:
    """Images 28 x 28 of one channel, 16 and 32 channels, batch 64."""
    normal = Normal()
    params = {
        "K1": normal.layer(3, 3, 1, 16),
        "K2": normal.layer(3, 3, 16, 32),
        "b1": normal(16),
        "b2": normal(32),
        "W": normal.layer(7 * 7 * 32, 10),
        "b": normal(10),
    }
    return params, normal(64, 28, 28, 1), normal.labels(64, 10)


def transformer_arguments() -> tuple[Any, ...]:
    """Two blocks of width 64 with 4 heads, 64 tokens, batch 4."""
    normal = Normal()
    width, heads, hidden = 64, 4, 256
    shapes = {
        **dict.fromkeys(("queries", "keys", "values"), (width, heads, width // heads)),
        "projection": (heads, width // heads, width),
        "W_1": (width, hidden),
        "W_2": (hidden, width),
        "b_1": (hidden,),
        "b_2": (width,),
        **dict.fromkeys(("shift_1", "shift_2"), (width,)),
    }
    blocks = [
        {
            **{name: normal(*shape, scale=width**-0.5) for name, shape in shapes.items()},
            **{name: 1.0 + normal(width, scale=0.1) for name in ("scale_1", "scale_2")},
        }
        for _ in range(2)
    ]
    return blocks, normal(4, 64, width), normal(4, 64, width)


def example_losses(
    W1: jax.Array, b1: jax.Array, W2: jax.Array, b2: jax.Array, X: jax.Array, Y: jax.Array
) -> jax.Array:
    """The cross-entropy of each example, a network of one hidden layer."""
    logits = jax.nn.sigmoid(X @ W1 + b1) @ W2 + b2
    return -jnp.sum(Y * jax.nn.log_softmax(logits), axis=1)


def example_gradients_by_hand(
    W1: jax.Array, b1: jax.Array, W2: jax.Array, b2: jax.Array, X: jax.Array, Y: jax.Array
) -> tuple[jax.Array, ...]:
    """What goes back to a layer, times what came into it, for each example."""
    hidden = jax.nn.sigmoid(X @ W1 + b1)
    q = jax.nn.softmax(hidden @ W2 + b2, axis=1) - Y
    back = q @ W2.T * hidden * (1 - hidden)
    return (
        X[:, :, None] * back[:, None, :],
        back[:, None],
        hidden[:, :, None] * q[:, None],
        q[:, None],
    )


def example_gradients() -> harness.Task:
    """The gradient of each example's loss, in float64."""
    n, k, h, m = 512, 30, 64, 10
    generator = np.random.default_rng(0)
    shapes = ((k, h), (1, h), (h, m), (1, m), (n, k))
    arrays = [jnp.asarray(0.3 * generator.normal(size=shape)) for shape in shapes]
    labels = jnp.asarray(np.eye(m)[generator.integers(m, size=n)])
    wrt = (0, 1, 2, 3)

    def by_example(*arguments: jax.Array) -> tuple[jax.Array, ...]:
        *params, X, Y = arguments

        def loss(params: Any, x: jax.Array, y: jax.Array) -> jax.Array:
            return example_losses(*params, x[None], y[None])[0]

        return jax.vmap(jax.grad(loss), in_axes=(None, 0, 0))(tuple(params), X, Y)

    return harness.Task(
        title=f"Gradients of {n} examples, {k}-{h}-{m}, 2,634 parameters, float64",
        arguments=(*arrays, labels),
        contenders={
            harness.OURS: blockjac.jacobian(example_losses, wrt),
            "vmap(grad)": by_example,
            "jacfwd": jax.jacfwd(example_losses, wrt),
            "jacrev": jax.jacrev(example_losses, wrt),
            "by hand": example_gradients_by_hand,
        },
        dense="by hand",
        alike=(harness.OURS, "vmap(grad)", "jacfwd", "jacrev", "by hand"),
        claims=(
            harness.Claim(1.05, ("vmap(grad)", "jacfwd", "jacrev")),
            harness.Claim(1.5, ("by hand",)),
        ),
    )


TASKS = {
    "perceptron": partial(
        task,
        "perceptron 784-512-512-10, batch 256",
        perceptron_loss,
        torch_perceptron,
        perceptron_arguments,
    ),
    "convolution": partial(
        task,
        "small convolutional network, batch 64 of 28 x 28",
        convolution_loss,
        torch_convolution,
        convolution_arguments,
    ),
    "transformer": partial(
        task,
        "transformer of two blocks, width 64, 4 x 64 tokens",
        transformer_loss,
        torch_transformer,
        transformer_arguments,
    ),
    "examples": example_gradients,
}

if __name__ == "__main__":
    harness.main("Gradients of networks cost what jax.grad's do", TASKS)
