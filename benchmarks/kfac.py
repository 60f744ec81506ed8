"""KFAC: the two factors of every layer, from one random vector an example.

The least that they take is a gradient without its last product for each weight, and one product of
the inputs with themselves; a layer has more inputs than outputs in many networks. All in float32.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import blockjac
import harness
import peers
from networks import (
    Function,
    convolutional_network,
    cross_entropy,
    dense_network,
    recurrent_network,
    transformer,
)

GRADIENT = "jax.grad"


def loss(classes: jax.Array, logits: jax.Array) -> jax.Array:
    """The mean cross-entropy."""
    return jnp.mean(cross_entropy(logits, classes))


def kfac_jax(logits: Function, params: Any, x: jax.Array, classes: jax.Array) -> harness.Peer:
    """The factors by kfac-jax, from one label drawn for each example."""

    def make() -> Function:
        import kfac_jax as kfac
        from kfac_jax._src import tag_graph_matcher

        def evaluated(equation: Any, operands: Any) -> list[Any]:
            """One equation; kfac-jax 0.0.8 asks JAX for its parameters as they were before 0.10."""
            params = equation.primitive.get_bind_params(equation.params)
            outs = equation.primitive.bind(*operands, **params)
            return outs if isinstance(outs, list) else [outs]

        tag_graph_matcher.eval_jaxpr_eqn = evaluated

        def registered(params: Any, batch: Any) -> jax.Array:
            x, classes = batch
            outputs = logits(params, x)
            kfac.register_softmax_cross_entropy_loss(outputs, classes)
            return loss(classes, outputs)

        estimator = kfac.BlockDiagonalCurvature(registered, params_index=0)
        arguments = params, (x, classes)
        state = estimator.init(jax.random.PRNGKey(0), arguments, None, None)

        def factors(params: Any, x: jax.Array, classes: jax.Array, key: jax.Array) -> Any:
            return estimator.update_curvature_matrix_estimate(
                state,
                0.0,
                1.0,
                0.0,
                len(x),
                jax.random.key_data(key),
                (params, (x, classes)),
                "fisher_gradients",
            )

        return factors

    return harness.Peer(make, compiled=True, alike=False)


def curvlinops(layers: Any, x: jax.Array, classes: jax.Array) -> harness.Peer:
    """The factors of a dense network by curvlinops, from one label drawn for each example."""

    def make() -> Function:
        from curvlinops import KFACLinearOperator

        torch = peers.torch_module()
        modules: list[Any] = []
        for W, b in layers:
            modules += [torch.nn.Linear(*W.shape), torch.nn.ReLU()]
            with torch.no_grad():
                modules[-2].weight.copy_(peers.tensor_of(W.T))
                modules[-2].bias.copy_(peers.tensor_of(b))
        model = torch.nn.Sequential(*modules[:-1]).to(peers.torch_device())
        data = [(peers.tensor_of(x), peers.tensor_of(classes).long())]
        loss_of, parameters = torch.nn.CrossEntropyLoss(), list(model.parameters())

        def factors(*_: Any) -> Any:
            operator = KFACLinearOperator(
                model, loss_of, parameters, data, check_deterministic=False, fisher_type="mc"
            )
            operator.compute_kronecker_factors()
            return None

        return peers.waited_for(factors)

    return harness.Peer(make, compiled=False, alike=False)


def by_hand(layers: Any, x: jax.Array, classes: jax.Array, key: jax.Array) -> Any:
    """The factors of a dense network from one sweep, as one would write them for it alone."""
    del classes

    def sums(shifts: Any) -> tuple[jax.Array, list[jax.Array]]:
        entering: list[jax.Array] = []
        z = x
        for number, ((W, b), shift) in enumerate(zip(layers, shifts, strict=True)):
            hidden = jax.nn.relu(z) if number else z
            entering.append(hidden)
            z = hidden @ W + b + shift
        return z, entering

    zeros = [jnp.zeros((len(x), len(b)), x.dtype) for _, b in layers]
    logits, pull, entering = jax.vjp(sums, zeros, has_aux=True)
    signs = jax.random.rademacher(key, logits.shape, logits.dtype)
    p = jax.nn.softmax(logits)
    product = jnp.sum(jnp.sqrt(p) * signs, axis=1, keepdims=True)
    (arriving,) = pull((jnp.sqrt(p) * signs - p * product) / np.float32(np.sqrt(len(x))))
    return [(a.T @ a / len(a), g.T @ g, g.T @ g) for a, g in zip(entering, arriving, strict=True)]


def factors(
    title: str,
    logits: Function,
    params: Any,
    shape: tuple[int, ...],
    limit: float = 1.5,
    is_dense: bool = False,
) -> harness.Task:
    """The factors of a network beside its gradient."""
    generator = np.random.default_rng(1)
    x = jnp.asarray(generator.normal(size=shape), jnp.float32)
    classes = jnp.asarray(generator.integers(10, size=shape[0]))
    sampled = blockjac.kfac(logits, loss, fisher_type="mc")

    def ours(params: Any, x: jax.Array, classes: jax.Array, key: jax.Array) -> Any:
        return sampled(params, x, classes, key=key).parts

    def gradient(params: Any, x: jax.Array, classes: jax.Array, key: jax.Array) -> Any:
        del key
        return jax.grad(lambda params: loss(classes, logits(params, x)))(params)

    peers = {"kfac-jax": kfac_jax(logits, params, x, classes)}
    if is_dense:
        peers["curvlinops"] = curvlinops(params, x, classes)
    return harness.Task(
        title=f"KFAC factors, {title}, {shape[0]} examples, float32",
        arguments=(params, x, classes, jax.random.key(0)),
        contenders={
            harness.OURS: ours,
            GRADIENT: gradient,
            **({"by hand": by_hand} if is_dense else {}),
        },
        others=peers,
        claims=(harness.Claim(limit, (GRADIENT,)), harness.Claim(1.0, tuple(peers))),
        note="One random vector an example; exact blocks of biases and scales included.",
    )


def dense(widths: tuple[int, ...], examples: int) -> harness.Task:
    """A fully connected network."""
    title = "-".join(map(str, widths))
    network = dense_network(widths)
    return factors(title, *network, (examples, widths[0]), is_dense=True)


def convolutions() -> harness.Task:
    """Convolutions, whose inputs are patches."""
    network = convolutional_network((3, 16, 32, 32), 32)
    return factors("3 convolutions of 32 x 32", *network, (64, 32, 32, 3))


def attention() -> harness.Task:
    """Attention and layers over time."""
    title = "2 transformer layers of width 64, 32 steps"
    return factors(title, *transformer(64, 4, 2), (32, 32, 64))


def recurrent() -> harness.Task:
    """A scan over time."""
    return factors("64-128 over 32 steps", *recurrent_network(64, 128), (64, 32, 64))


TASKS = {
    "dense": partial(dense, (784, 256, 256, 10), 512),
    "dense_deep": partial(dense, (256, 256, 256, 256, 256, 10), 512),
    "convolutions": convolutions,
    "attention": attention,
    "recurrent": recurrent,
}

if __name__ == "__main__":
    harness.main("KFAC's factors beside a gradient", TASKS)
