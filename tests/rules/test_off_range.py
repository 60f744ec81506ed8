"""Places off the array: first and second derivatives as JAX's, in every transform."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from support.off_range_programs import made
from support.sampling import sampled

import blockjac

pytestmark = pytest.mark.slow

ORDERS = ("forward", "reverse", "greedy")


def written_out(answer):
    """The arrays of an answer with blocks."""
    if isinstance(answer, blockjac.BlockMatrix):
        answer = answer.tree()
    return jax.tree.map(
        lambda one: one.dense() if isinstance(one, blockjac.Block) else one,
        answer,
        is_leaf=lambda one: isinstance(one, blockjac.Block),
    )


def theirs(function, number, x, places, v, q):
    """What JAX's transforms give, by the name of what ours give."""
    jacobian = jax.jit(jax.jacrev(function))(x, *places)
    hessian = jax.jit(jax.hessian(number))(x, *places)
    square = hessian.reshape(x.size, x.size)
    return {
        "jacobian": jacobian,
        "vjp": jnp.tensordot(q, jacobian, q.ndim),
        "jvp": jax.jvp(lambda x: function(x, *places), (x,), (v,))[1],
        "grad": jax.grad(number)(x, *places),
        "hessian": hessian,
        "hvp": jnp.tensordot(hessian, v, v.ndim),
        "diagonal": jnp.diagonal(square).reshape(x.shape),
    }


def ours(function, number, x, places, v, q, number_of_order):
    """The same of ours; the order of elimination changes from program to program."""
    order = ORDERS[number_of_order % len(ORDERS)]
    return {
        "jacobian": [
            blockjac.jacobian(function)(x, *places),
            blockjac.jacobian(function, order=order)(x, *places),
            written_out(blockjac.block_jacobian(function)(x, *places)),
        ],
        "vjp": [blockjac.vjp(lambda x: function(x, *places), x)[1](q)[0]],
        "jvp": [blockjac.jvp(lambda x: function(x, *places), (x,), (v,))[1]],
        "grad": [blockjac.grad(number)(x, *places)],
        "hessian": [
            blockjac.hessian(number)(x, *places),
            written_out(blockjac.block_hessian(number, order=order)(x, *places)),
        ],
        "hvp": [blockjac.hvp(lambda x: number(x, *places), x, v)],
        "diagonal": [blockjac.hessian_diagonal(number)(x, *places)],
    }


def agree(found, wanted, what):
    """Equal, but where JAX has nan: a structural zero stays 0, and what is added to it a number."""
    found, wanted = np.asarray(found), np.asarray(wanted)
    wanted = np.where(np.isnan(wanted), found, wanted)
    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-9, err_msg=what)


@pytest.mark.slow
@pytest.mark.parametrize("seed", sampled(range(30), 6))
def test_random_programs(seed):
    program = made(seed)
    rng = np.random.default_rng(seed)
    x, places = program.x, tuple(map(jnp.asarray, program.places))
    constant = bool(seed % 2)

    def function(x, *given):
        return program(x, *(program.places if constant else given))

    def number(x, *given):
        return program.number(x, *(program.places if constant else given))

    v = jnp.asarray(rng.normal(size=x.shape))
    q = jnp.asarray(rng.normal(size=jax.eval_shape(function, x, *places).shape))

    @jax.jit
    def both(x, *places):
        wanted = theirs(function, number, x, places, v, q)
        return ours(function, number, x, places, v, q, seed), wanted

    found, wanted = both(x, *places)
    for name, answers in found.items():
        for answer in answers:
            agree(answer, wanted[name], f"{name} of {program}")


@pytest.mark.parametrize(
    "seed",
    [
        100,
        104,
        108,
        *(pytest.param(seed, marks=pytest.mark.thorough) for seed in (101, 103, 105)),
    ],
)
def test_batches_of_random_programs(seed):
    program = made(seed)
    x, places = program.x, tuple(map(jnp.asarray, program.places))
    xs = jnp.stack([x, 0.5 * x + 0.3])
    batches = [jnp.stack([place, jnp.flip(place)]) for place in places]

    def losses(x, *batches):
        return jax.vmap(lambda *places: program.number(x, *places))(*batches)

    def block_hessian(x, *places):
        return written_out(blockjac.block_hessian(program.number)(x, *places))

    @jax.jit
    def both(x, xs, *batches):
        wanted = (
            jax.vmap(jax.jacrev(program))(xs, *batches),
            jax.vmap(jax.hessian(program.number))(xs, *batches),
            jax.jit(jax.jacrev(losses))(x, *batches),
        )
        found = (
            jax.vmap(blockjac.jacobian(program))(xs, *batches),
            jax.vmap(block_hessian)(xs, *batches),
            written_out(blockjac.per_example_grad(losses)(x, *batches)),
        )
        return found, wanted

    for name, found, wanted in zip(
        ("jacobian", "block_hessian", "per_example_grad"), *both(x, xs, *batches), strict=True
    ):
        agree(found, wanted, f"{name} of {program}")


# Plain indexing, which promises that its places lie on the array

PAST_THE_END = {
    "entries": lambda x, i: jnp.sum(jnp.sin(x[i]) * x[i - 1]),
    "differences": lambda x, i: jnp.sum((x[i] - x[i - 1]) ** 3),
    "two steps": lambda x, i: jnp.sum(jnp.cos(x[i] * x[0])[i - 2] ** 2),
    "of a product": lambda x, i: jnp.sum((jnp.outer(x, x) @ jnp.sin(x))[i] ** 2),
    "of a reshape": lambda x, i: jnp.sum(jnp.sin(x.reshape(-1, 2)[i]) ** 2),
    "in a loop": lambda x, i: lax.fori_loop(0, 3, lambda k, s: s * jnp.sin(x[i + k]), x[i]).sum(),
    "in a scan": lambda x, i: lax.scan(lambda s, k: (s + x[k] ** 2, s), 0.0, i)[0] ** 2,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PAST_THE_END)
@pytest.mark.parametrize("constant", [True, False])
def test_plain_indexing(name, constant):
    x, places = jnp.linspace(0.3, 1.7, 6), jnp.array([0, 3, 5, 6, 11])
    function = PAST_THE_END[name]
    number = (lambda x, i: function(x, places)) if constant else function
    v = jnp.cos(x)
    close = np.testing.assert_allclose
    with_vector = (lambda x: number(x, places)), (x,), (v,)
    close(blockjac.grad(number)(x, places), jax.grad(number)(x, places), rtol=1e-12)
    for order in (*ORDERS, "auto"):
        wanted = jax.jit(jax.jacrev(number))(x, places)
        close(blockjac.jacobian(number, order=order)(x, places), wanted, rtol=1e-12)
    wanted = jax.jit(jax.hessian(number))(x, places)
    close(blockjac.hessian(number)(x, places), wanted, rtol=1e-11, atol=1e-13)
    block = written_out(blockjac.block_hessian(number)(x, places))
    close(block, wanted, rtol=1e-11, atol=1e-13)
    close(blockjac.hvp(with_vector[0], x, v), wanted @ v, rtol=1e-11, atol=1e-13)
    close(blockjac.jvp(*with_vector)[1], jax.jvp(*with_vector)[1], rtol=1e-12)
