"""Caches are bounded in entries and bytes, shared by threads, and emptied together."""

import threading

import jax.numpy as jnp
import pytest

import blockjac
from blockjac.base import caches
from blockjac.base.caches import Cache


@pytest.fixture
def cache(request, monkeypatch):
    monkeypatch.setattr(caches, "_registry", {})
    return Cache(request.node.name, 3, max_bytes=100, size=len)


def test_what_was_used_least_recently_is_dropped(cache):
    for key in "abc":
        cache.put(key, key)
    assert cache.get("a") == "a"
    cache.put("d", "d")
    assert [key in cache for key in "abcd"] == [True, False, True, True]
    assert cache.info() == (1, 0, 3, 3, 3, 100)


def test_bytes_are_bounded_but_the_newest_stays(cache):
    cache.put("a", "x" * 60)
    cache.put("b", "x" * 30)
    assert cache.info().nbytes == 90
    cache.put("c", "x" * 50)
    assert "a" not in cache
    assert cache.info().nbytes == 80
    cache.put("d", "x" * 1000)
    assert len(cache) == 1
    assert cache.get("d") == "x" * 1000


def test_a_value_is_made_once_and_the_first_one_counts(cache):
    assert cache.made("a", lambda: "first") == "first"
    assert cache.made("a", lambda: "second") == "first"
    assert cache.put("a", "third") == "first"
    assert cache.info().nbytes == len("first")


def test_making_a_value_may_ask_the_cache(cache):
    assert cache.made("outer", lambda: cache.made("inner", lambda: "x") + "y") == "xy"
    assert len(cache) == 2


def test_threads_get_the_same_value(cache):
    barrier, found = threading.Barrier(8), []

    def ask():
        barrier.wait()
        for number in range(200):
            found.append((number % 5, cache.made(number % 5, lambda number=number: [number])))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8 * 200
    assert all(value[0] % 5 == key for key, value in found)
    assert len(cache) <= 3


def test_two_caches_of_one_name_are_refused(cache, request):
    with pytest.raises(ValueError, match="a name of its own"):
        Cache(request.node.name, 1)


def test_all_are_emptied_together():
    blockjac.grad(lambda x: x**2)(3.0)
    blockjac.block_jacobian(jnp.sin)(jnp.ones(3)).matvec(jnp.ones(3))
    assert blockjac.cache_info()["programs"].entries
    blockjac.clear_caches()
    assert all(info.entries == info.nbytes == 0 for info in blockjac.cache_info().values())
    assert blockjac.grad(lambda x: x**2)(3.0) == 6.0


@pytest.mark.slow
def test_fresh_closures_over_many_shapes_stay_within_the_bound():
    blockjac.clear_caches()
    for size in range(1, 30):
        blockjac.grad(lambda x: jnp.sum(jnp.sin(x)))(jnp.ones(size))
    info = blockjac.cache_info()["programs"]
    assert info.entries == 29
    assert 29 * 1_600_000 <= info.nbytes <= info.max_bytes
