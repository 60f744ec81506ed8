"""On an accelerator, factors that a large result reads many times are computed once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import blockjac
from blockjac import devices
from blockjac.algebra import stored_once

X = jnp.asarray(np.random.default_rng(0).normal(size=(512, 10)))


class Accelerator:
    """What JAX tells of one."""

    platform = "gpu"
    device_kind = "NVIDIA H200"

    def memory_stats(self):
        return None


@pytest.fixture
def accelerator(monkeypatch):
    for module in (devices, stored_once):
        monkeypatch.setattr(module, "current", Accelerator)
    blockjac.clear_caches()
    yield
    monkeypatch.undo()
    blockjac.clear_caches()


def softmax(x):
    return jax.nn.softmax(x, axis=1)


def barriers(rows):
    jacobian = blockjac.jacobian(lambda x: softmax(x))
    return str(jax.make_jaxpr(jacobian)(X[:rows])).count("optimization_barrier")


def test_factors_of_a_large_result_are_stored(accelerator):
    assert barriers(512) >= 1


def test_factors_of_a_small_result_are_not(accelerator):
    assert barriers(4) == 0


def test_on_a_processor_none_is():
    assert barriers(512) == 0


@pytest.mark.slow
def test_the_answer_is_the_same(accelerator):
    found = jax.jit(blockjac.jacobian(softmax))(X)
    np.testing.assert_allclose(found, jax.jit(jax.jacfwd(softmax))(X), rtol=1e-12, atol=1e-15)
