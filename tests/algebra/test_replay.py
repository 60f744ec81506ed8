"""What was emitted before is emitted again as the same operations, and only once worked out."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import blockjac
from blockjac.algebra import plan_cache, replay, sums, two_blocks
from blockjac.blocks import Block
from blockjac.elimination import elemental

star = importlib.import_module("blockjac.algebra.star")  # the package has a function of this name

GENERATOR = np.random.default_rng(0)
SQUARE = jnp.asarray(GENERATOR.normal(size=(4, 4)))


def chain(x):
    for _ in range(6):
        x = jnp.sin(x) * 1.01
    return x


def shared(x):
    """Products of one array with itself, of values that are used again, and sums of paths."""
    y = x
    for _ in range(5):
        x, y = x * x + 0.5 * y, y * jnp.tanh(x) - x
    return x * y


def layers(x):
    for _ in range(4):
        x = jnp.tanh(SQUARE @ x) + jnp.max(x) - x[::-1]
    return x


def indexed(x):
    a, b = x[0], x[1]
    for k in range(5):
        a, b = a + 0.01 * jnp.sin(b * (1 + k % 3)), b - 0.01 * a * b
    return jnp.stack([a, b]) * x[1:3]


def looked_up(x):
    for _ in range(4):
        x = x[np.array([2, 0, 3, 1])] * jnp.where(np.array([True, False, True, True]), x, 1.0)
    return x


def powers(x):
    for _ in range(4):
        x = x**3 / (1 + x**2) + jnp.abs(x) ** 1.5
    return x


PROGRAMS = (chain, shared, layers, indexed, looked_up, powers)
TRANSFORMS = {
    "jacobian": lambda f: blockjac.jacobian(f),
    "forward": lambda f: blockjac.jacobian(f, order="forward"),
    "grad": lambda f: blockjac.grad(lambda x: jnp.sum(f(x))),
    "hvp": lambda f: lambda x: blockjac.hvp(lambda x: jnp.sum(f(x)), x, x),
    "hessian": lambda f: blockjac.hessian(lambda x: jnp.sum(f(x))),
    "vmap": lambda f: lambda x: jax.vmap(blockjac.jacobian(f))(jnp.stack([x, 2 * x])),
}


@pytest.fixture(autouse=True)
def fresh():
    replay.forget()
    yield
    replay.forget()


def emitted(transform, program, x):
    return str(jax.make_jaxpr(TRANSFORMS[transform](program))(x))


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("program", PROGRAMS)
def test_what_is_replayed_is_what_would_be_emitted(program, transform, monkeypatch):
    x = jnp.asarray(GENERATOR.normal(size=4))
    for _ in range(replay.FREQUENT + 1):
        again = emitted(transform, program, x)
    monkeypatch.setattr(
        two_blocks, "replayed", lambda operation, left, right: operation(left, right)
    )
    monkeypatch.setattr(elemental, "played", lambda *_: None)
    assert emitted(transform, program, x) == again


@pytest.mark.slow
@pytest.mark.parametrize("program", PROGRAMS)
def test_the_answers_are_those_of_jax(program):
    x = jnp.asarray(GENERATOR.normal(size=4))
    for _ in range(replay.FREQUENT + 1):
        found = jax.jit(lambda x: blockjac.jacobian(program)(x))(x)
        second = jax.jit(lambda x: blockjac.hessian(lambda x: jnp.sum(program(x)))(x))(x)
    np.testing.assert_allclose(found, jax.jit(jax.jacfwd(program))(x), rtol=1e-11, atol=1e-13)
    wanted = jax.jit(jax.hessian(lambda x: jnp.sum(program(x))))(x)
    np.testing.assert_allclose(second, wanted, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("way", ["grad", "jacobian", "hvp"])
def test_an_unrolled_program_is_worked_out_once_a_kind(way, monkeypatch):
    """Contractions and rules of ten times the steps are worked out no more often."""
    counts = []

    def counted(function):
        def call(*args, **kwargs):
            counts.append(1)
            return function(*args, **kwargs)

        return call

    monkeypatch.setattr(star, "_contracted", counted(star._contracted))
    monkeypatch.setattr(sums, "_joined", counted(sums._joined))
    rule = elemental.RULES["mul"]
    monkeypatch.setattr(type(rule), "apply", counted(type(rule).apply))

    def steps(count):
        def program(x):
            a, b = x[0], x[1]
            for _ in range(count):
                a, b = a + 0.01 * jnp.sin(b), b - 0.01 * a * b
            return jnp.stack([a, b])

        return program

    def worked_out(count):
        replay.forget()
        plan_cache.forget()
        counts.clear()
        jax.make_jaxpr(TRANSFORMS[way](steps(count)))(jnp.ones(2))
        return len(counts)

    assert worked_out(150) <= worked_out(30) + 2


def test_only_what_is_equal_in_all_that_counts_is_taken_for_it():
    """Types, dtypes, coefficients and which arrays are the same tell kinds apart."""

    def structure_of(x, y, scalar):
        block = Block.diag(x) @ (scalar * Block.diag(y))
        return block.structure, block.dense()

    x, y = jnp.array([1.0, 2.0]), jnp.array([3.0, 4.0])
    for one, other in ((x, y), (x, x), (x.astype(jnp.float32), y), (x, y.astype(jnp.float32))):
        for scalar in (1, 1.0, 2, -1):
            for _ in range(replay.FREQUENT + 1):
                found = jax.jit(lambda a, b, c=scalar: structure_of(a, b, c)[1])(one, other)
                np.testing.assert_allclose(found, np.diag(one * other * scalar))
                assert found.dtype == other.dtype


def test_names_are_those_of_the_arguments_at_hand():
    def formula(name):
        def of(x, y):
            found = Block.diag(x, name) @ Block.identity((3,))
            formulas.append(found.structure)
            return found.dense()

        formulas: list[str] = []
        for _ in range(replay.FREQUENT + 1):
            jax.make_jaxpr(of)(jnp.ones(3), jnp.ones(3))
        return formulas

    first, second = formula("A"), formula("B")
    assert len(set(first)) == len(set(second)) == 1
    assert "A" in first[0]
    assert "B" in second[0]


def test_the_precision_that_is_asked_for_is_that_of_the_products():
    def products(precision):
        with jax.default_matmul_precision(precision):
            return str(
                jax.make_jaxpr(lambda x: (Block.from_dense(x, 1) @ Block.from_dense(x, 1)).dense())(
                    jnp.ones((3, 3))
                )
            )

    for precision in ("float32", "bfloat16") * (replay.FREQUENT + 1):
        text = products(precision).upper()
        assert ("HIGHEST" in text) == (precision == "float32")


def test_what_is_kept_is_bounded(monkeypatch):
    monkeypatch.setattr(replay, "MAX_KEPT", 4)
    for size in range(2, 20):
        for _ in range(replay.FREQUENT + 1):
            jax.make_jaxpr(lambda x: (Block.diag(x) @ Block.diag(x)).dense())(jnp.ones(size))
    assert len(replay._scores) <= 4
