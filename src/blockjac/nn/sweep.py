"""Backpropagation through a list of layers: the sweep that updates, and its block-matrix form.

A layer is a function `f_i(x, theta_i)` of the value that comes in and its own parameters; the last
one gives the loss, one number. Layers and parameters are two lists of one length.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from blockjac.base.trees import leaves_with_path, tree_structure
from blockjac.blocks import Block, BlockMatrix
from blockjac.errors import NonScalarLossError, ParameterTypeError, ShapeMismatchError
from blockjac.transforms.first_order import block_jacobian
from blockjac.transforms.products import vjp

Layer = Callable[[Any, Any], Any]


def sweep(
    layers: Sequence[Layer], params: Sequence[Any], x: Any, step_size: ArrayLike
) -> list[Any]:
    """Make one step of gradient descent while going back through the layers.

    From the last layer to the first, with `q` the loss's Jacobian with respect to what the layer
    gives, and both Jacobians of the layer at its old parameters:

        theta_i <- theta_i - step_size * (q star D_theta_i f_i)
        q       <- q star D_x_i f_i

    The result is that of a plain gradient step, but only one layer's gradient is alive at a time.

    Args:
        layers: Functions `(x, theta) -> x`, the last of which gives one real number.
        params: The parameters of each layer, any pytrees of real arrays.
        x: What the first layer takes; it is not differentiated.
        step_size: Scalar, the learning rate.

    Returns:
        The new parameters of each layer.

    Raises:
        ShapeMismatchError: If there are not as many parameters as layers, or none.
        ParameterTypeError: If a parameter is not real.
        NonScalarLossError: If the last layer gives anything but one real number.

    Examples:
        >>> layers = [lambda x, theta: x * theta, lambda x, theta: (x - theta) ** 2]
        >>> [float(theta) for theta in sweep(layers, [3.0, 1.0], 2.0, 0.1)]
        [1.0, 2.0]
    """
    _check_layers(layers, params)
    pullbacks = []
    for layer, theta in zip(layers, params, strict=True):
        if pullbacks:
            x, pullback = vjp(layer, x, theta)
        else:
            x, pullback = vjp(partial(layer, x), theta)
        pullbacks.append(pullback)
    _check_loss(x)

    def back(q: Any, theta: Any) -> tuple[Any, Any]:
        # The gradient lives in this call only; it is gone when the next layer's is computed.
        *entering, gradient = cast("tuple[Any, ...]", pullbacks.pop()(q))
        updated = jax.tree.map(partial(_descended, step_size), theta, gradient)
        return entering[0] if entering else None, updated

    q: Any = jnp.ones_like(x)
    updated: list[Any] = []
    for theta in reversed(params):
        q, theta = back(q, theta)
        updated.append(theta)
    return updated[::-1]


def _descended(step_size: ArrayLike, value: ArrayLike, gradient: jax.Array) -> jax.Array:
    """A parameter after its step, in its own dtype."""
    value = jnp.asarray(value)
    return value - jnp.asarray(step_size, value.dtype) * gradient


def stage_jacobians(layers: Sequence[Layer], params: Sequence[Any], x: Any) -> list[BlockMatrix]:
    """The Jacobians of the sequence of maps that eat up the parameters one by one.

    Stage `i` takes `(x_i, theta_i, ..., theta_L)` to `(x_{i+1}, theta_{i+1}, ..., theta_L)`:

        [ D_x f_i   D_theta f_i   0 ]
        [ 0         0             I ]

    The first stage has no column for `x`, which is data, and the last no row for parameters. Their
    product, the last stage first, is the loss's gradient with respect to all parameters: one row of
    blocks, and as `product[0]` the list of parameters with a block for each array.

    Args:
        layers: Functions `(x, theta) -> x`, the last of which gives one real number.
        params: The parameters of each layer, any pytrees of real arrays.
        x: What the first layer takes.

    Returns:
        One matrix a layer, in the order in which the layers are applied, with a row and a column
        for each array.

    Raises:
        ShapeMismatchError: If there are not as many parameters as layers, or none.
        ParameterTypeError: If a parameter is not real.
        NonScalarLossError: If the last layer gives anything but one real number.

    Examples:
        >>> layers = [lambda x, theta: x * theta, lambda x, theta: (x - theta) ** 2]
        >>> first, last = stage_jacobians(layers, [3.0, 1.0], 2.0)
        >>> print((last @ first).dense())
        [[ 20. -10.]]
    """
    _check_layers(layers, params)
    if not jax.tree.leaves(params[0]):
        raise ShapeMismatchError(
            "the first layer has no parameters, so that its stage has no column: apply it to x "
            "first, and start the stages with the first layer that has some"
        )
    stages: list[BlockMatrix] = []
    for position, (layer, theta) in enumerate(zip(layers, params, strict=True)):
        rest = list(params[position + 1 :])
        if stages:
            blocks, entering = block_jacobian(layer, argnums=(0, 1))(x, theta), (x, theta, rest)
        else:
            blocks, entering = block_jacobian(partial(layer, x))(theta), [theta, *rest]
        x = layer(x, theta)
        stages.append(_stage(blocks, entering, x, rest))
    _check_loss(x)
    return stages


def _stage(blocks: Any, entering: Any, x: Any, rest: list[Any]) -> BlockMatrix:
    """Put a layer's blocks beside zeros, and the identity of the parameters that wait below."""
    waiting = [jnp.asarray(leaf) for leaf in jax.tree.leaves(rest)]
    layer_blocks = jax.tree.leaves(blocks, is_leaf=lambda leaf: isinstance(leaf, Block))
    width = len(layer_blocks) // len(jax.tree.leaves(x))
    rows: list[list[Block]] = []
    for start in range(0, len(layer_blocks), width):
        row = layer_blocks[start : start + width]
        shape, dtype = row[0].out_shape, row[0].dtype
        rows.append([*row, *(Block.zeros(shape, leaf.shape, dtype) for leaf in waiting)])
    for position, kept in enumerate(waiting):
        shapes = [block.wrt_shape for block in layer_blocks[:width]] + [
            leaf.shape for leaf in waiting
        ]
        row = [Block.zeros(kept.shape, shape, kept.dtype) for shape in shapes]
        row[width + position] = Block.identity(kept.shape, kept.dtype)
        rows.append(row)
    leaving = (x, rest) if rest else x
    return BlockMatrix(rows, tree_structure(leaving), tree_structure(entering))


def _check_layers(layers: Sequence[Layer], params: Sequence[Any]) -> None:
    """Refuse lists that do not belong together."""
    if len(layers) != len(params) or not layers:
        raise ShapeMismatchError(
            f"{len(layers)} layers and parameters of {len(params)}; "
            "wanted as many of both, at least one (a layer without parameters has the empty tuple)"
        )
    for path, leaf in leaves_with_path(params):
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            raise ParameterTypeError(
                f"params{jax.tree_util.keystr(path)} is {jnp.result_type(leaf)}; wanted real "
                "numbers: pass a float array here, and close over what is not to be trained"
            )


def _check_loss(value: Any) -> None:
    """Refuse what the last layer gives unless it is one real number."""
    leaves = jax.tree.leaves(value)
    if len(leaves) != 1 or value is not leaves[0]:
        raise NonScalarLossError(
            f"the last layer gives {len(leaves)} arrays; wanted one real number, the loss"
        )
    dtype = jnp.result_type(value)
    if jnp.shape(value) != () or not jnp.issubdtype(dtype, jnp.floating):
        raise NonScalarLossError(
            f"the last layer gives {dtype}{list(jnp.shape(value))}; "
            "wanted one real number, the loss"
        )
