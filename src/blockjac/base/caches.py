"""Caches for what is expensive to make: compiled programs, patterns, results by structure.

Every cache has a bound on its entries, and some on their bytes. It drops the least recently used
value first, is safe to use from several threads, and is listed in one registry, so that all caches
can be inspected and cleared together.
"""

from __future__ import annotations

import functools
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

Value = TypeVar("Value")
Function = TypeVar("Function", bound=Callable[..., Any])

_MISSING = object()


class CacheInfo(NamedTuple):
    """The contents of a cache, and how often it was queried.

    Attributes:
        hits: queries that found a value.
        misses: queries that did not.
        entries: values in the cache.
        max_entries: the bound on `entries`.
        nbytes: bytes that the values take, approximately.
        max_bytes: the bound on `nbytes`; None if bytes are not counted.
    """

    hits: int
    misses: int
    entries: int
    max_entries: int
    nbytes: int
    max_bytes: int | None


class Cache(Generic[Value]):
    """A mapping with bounded size that drops the least recently used values first.

    Args:
        name: the name of the cache in `blockjac.cache_info`, unique.
        max_entries: the largest number of values to keep.
        max_bytes: the largest number of bytes to keep, by `size`; the newest value stays even if it
            alone is larger.
        size: a function that estimates the bytes of a value.

    Raises:
        ValueError: if the name is taken.
    """

    def __init__(
        self,
        name: str,
        max_entries: int,
        max_bytes: int | None = None,
        size: Callable[[Value], int] | None = None,
    ) -> None:
        """Make an empty cache and add it to the registry."""
        self.max_entries, self.max_bytes = max_entries, max_bytes
        self._size = size
        self._lock = threading.RLock()
        self._values: OrderedDict[Hashable, Value] = OrderedDict()
        self._sizes: dict[Hashable, int] = {}
        self._nbytes = self._hits = self._misses = 0
        _register(name, self)

    def get(self, key: Hashable, default: Any = None) -> Any:
        """The value of a key, now the most recently used; `default` if there is none."""
        with self._lock:
            value = self._values.get(key, _MISSING)
            if value is _MISSING:
                self._misses += 1
                return default
            self._hits += 1
            self._values.move_to_end(key)
            return value

    def put(self, key: Hashable, value: Value, nbytes: int | None = None) -> Value:
        """Store a value, unless another thread stored one first; return the stored value.

        Args:
            key: a hashable key.
            value: the value.
            nbytes: the bytes of the value, if the caller knows better than `size`.
        """
        with self._lock:
            if key in self._values:
                return self._values[key]
            if nbytes is None:
                nbytes = 0 if self._size is None else self._size(value)
            self._values[key] = value
            self._sizes[key] = nbytes
            self._nbytes += nbytes
            while len(self._values) > 1 and self._is_full():
                dropped, _ = self._values.popitem(last=False)
                self._nbytes -= self._sizes.pop(dropped)
            return value

    def made(self, key: Hashable, make: Callable[[], Value], nbytes: int | None = None) -> Value:
        """The value of a key, made first if it is missing.

        No lock is held meanwhile: two threads may both make a value, but both get the same one.
        """
        value = self.get(key, _MISSING)
        return self.put(key, make(), nbytes) if value is _MISSING else value

    def clear(self) -> None:
        """Drop all values and reset the counts."""
        with self._lock:
            self._values.clear()
            self._sizes.clear()
            self._nbytes = self._hits = self._misses = 0

    def info(self) -> CacheInfo:
        """The contents, and how often they were queried."""
        with self._lock:
            return CacheInfo(
                self._hits,
                self._misses,
                len(self._values),
                self.max_entries,
                self._nbytes,
                self.max_bytes,
            )

    def __contains__(self, key: Hashable) -> bool:
        return key in self._values

    def __len__(self) -> int:
        return len(self._values)

    def _is_full(self) -> bool:
        too_large = self.max_bytes is not None and self._nbytes > self.max_bytes
        return too_large or len(self._values) > self.max_entries


class Table(dict[Any, Any]):
    """A mapping that is cleared as a whole once it is full.

    It suits values that are looked up so often that recording each use would cost more than it
    saves; the owner calls `clear` when the table is full.

    Args:
        name: the name of the table in `blockjac.cache_info`, unique.
        max_entries: the largest number of values to keep.

    Raises:
        ValueError: if the name is taken.
    """

    def __init__(self, name: str, max_entries: int) -> None:
        super().__init__()
        self.max_entries = max_entries
        _register(name, self)

    def info(self) -> CacheInfo:
        """The contents; hits and misses are not counted."""
        return CacheInfo(0, 0, len(self), self.max_entries, 0, None)


class _Remembered:
    """The cache that `functools.lru_cache` attaches to a function."""

    def __init__(self, function: Any) -> None:
        self.clear = function.cache_clear
        self._function = function

    def info(self) -> CacheInfo:
        info = self._function.cache_info()
        return CacheInfo(info.hits, info.misses, info.currsize, info.maxsize, 0, None)


def remembering(name: str, max_entries: int) -> Callable[[Function], Function]:
    """Decorate a function with an LRU cache that is listed in the registry."""

    def decorate(function: Function) -> Function:
        cached: Any = functools.lru_cache(maxsize=max_entries)(function)
        _register(name, _Remembered(cached))
        return cached

    return decorate


class _Registered(Protocol):
    def clear(self) -> None: ...

    def info(self) -> CacheInfo: ...


_registry: dict[str, _Registered] = {}


def _register(name: str, cache: _Registered) -> None:
    if name in _registry:
        raise ValueError(f"two caches are called {name!r}; every cache needs a name of its own")
    _registry[name] = cache


def clear_caches() -> None:
    """Forget every compiled program, pattern and plan that the library keeps between calls.

    Results stay the same; the next call of each function compiles again. Programs that `jax.jit`
    compiled for your own functions belong to JAX, see `jax.clear_caches`.

    Examples:
        >>> import blockjac, jax.numpy as jnp
        >>> slope = blockjac.grad(lambda x: x**2)(3.0)
        >>> blockjac.clear_caches()
        >>> blockjac.cache_info()["programs"].entries
        0
    """
    for cache in list(_registry.values()):
        cache.clear()


def cache_info() -> dict[str, CacheInfo]:
    """The contents of each of the library's caches.

    Returns:
        The hits, misses, entries and bytes of each cache, with the bounds, by the cache's name. The
        bytes of compiled programs are estimates.

    Examples:
        >>> import blockjac, jax.numpy as jnp
        >>> slope = blockjac.grad(lambda x: x**2)(3.0)
        >>> blockjac.cache_info()["programs"].max_entries
        512
    """
    return {name: cache.info() for name, cache in _registry.items()}
