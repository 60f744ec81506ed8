"""What a fit compiles beside its steps, and the threads of its small matrices."""

import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from blockjac.estimators import FeedforwardRegressor
from blockjac.estimators.ahead import compiled_ahead
from blockjac.estimators.blas_threads import _libraries, few_threads


@pytest.mark.parametrize("is_x64", [True, False])
def test_work_is_done_once_with_the_dtype_of_who_asked(is_x64):
    found = []

    def work():
        found.append(jnp.zeros(()).dtype)

    with jax.enable_x64(is_x64):
        for _ in range(2):
            with compiled_ahead(("a test", is_x64), work):
                pass
    assert found == [np.float64 if is_x64 else np.float32]


@pytest.mark.slow
def test_nothing_is_compiled_twice(caplog):
    generator = np.random.RandomState(0)
    X = generator.normal(size=(61, 3))
    with caplog.at_level(logging.DEBUG, logger="jax._src.dispatch"), jax.log_compiles(True):
        FeedforwardRegressor((3,), random_state=0).fit(X, X[:, 0] ** 2)
    messages = [record.getMessage() for record in caplog.records]
    for name in ("jit(step)", "jit(weighed_at)", "jit(left_out)"):
        assert sum(f"XLA compilation of {name}" in one for one in messages) <= 1, name
    assert any("XLA compilation of jit(step)" in one for one in messages)


def test_small_matrices_have_one_thread_and_others_what_they_had():
    def threads():
        return [one["num_threads"] for one in _libraries().info()]

    before = threads()
    with few_threads(999):
        assert set(threads()) == {1}
        with few_threads(50_000):
            assert set(threads()) == {1}
    assert threads() == before
    with few_threads(1000 * max(before)):
        assert threads() == [min(before)] * len(before)
