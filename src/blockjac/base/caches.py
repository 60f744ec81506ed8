"""What is made once and kept: compiled programs, patterns, what a pair of structures gives.

Every cache is bounded in entries and in bytes, drops what was used least recently, may be used from
several threads, and stands in one registry, so that all can be looked at and emptied together.
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
    """What a cache holds, and how often it was asked.

    Attributes:
        hits: how often a value was there.
        misses: how often it was not.
        entries: how many values are kept.
        max_entries: how many are kept at most.
        nbytes: about how many bytes they take.
        max_bytes: how many bytes they may take; None where they are not counted.
    """

    hits: int
    misses: int
    entries: int
    max_entries: int
    nbytes: int
    max_bytes: int | None


class Cache(Generic[Value]):
    """Values by key, of which the least recently used are dropped first.

    Args:
        name: what it is called in `blockjac.cache_info`; each name is taken once.
        max_entries: how many values are kept.
        max_bytes: how many bytes they may take, by `size`; the newest value is kept whatever it
            takes.
        size: about how many bytes a value takes.

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
        self.max_entries, self.max_bytes = max_entries, max_bytes
        self._size = size
        self._lock = threading.RLock()
        self._values: OrderedDict[Hashable, Value] = OrderedDict()
        self._sizes: dict[Hashable, int] = {}
        self._nbytes = self._hits = self._misses = 0
        _register(name, self)

    def get(self, key: Hashable, default: Any = None) -> Any:
        """The value of a key, which counts as used; `default` if it is not there."""
        with self._lock:
            value = self._values.get(key, _MISSING)
            if value is _MISSING:
                self._misses += 1
                return default
            self._hits += 1
            self._values.move_to_end(key)
            return value

    def put(self, key: Hashable, value: Value, nbytes: int | None = None) -> Value:
        """Keep a value, unless another thread was first; what is kept is returned.

        Args:
            key: hashable.
            value: the value.
            nbytes: what it takes, where the caller knows better than `size`.
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
        """The value of a key, made if it is not there.

        Nothing is locked while it is made: two threads may both make it, and get the same one.
        """
        value = self.get(key, _MISSING)
        return self.put(key, make(), nbytes) if value is _MISSING else value

    def clear(self) -> None:
        """Drop all values, and count anew."""
        with self._lock:
            self._values.clear()
            self._sizes.clear()
            self._nbytes = self._hits = self._misses = 0

    def info(self) -> CacheInfo:
        """What it holds, and how often it was asked."""
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
    """Values by key, which are forgotten together when there are too many.

    For what is asked so often that to note each use would cost more than it saves; the owner calls
    `clear` when it is full.

    Args:
        name: what it is called in `blockjac.cache_info`.
        max_entries: how many values are kept.

    Raises:
        ValueError: if the name is taken.
    """

    def __init__(self, name: str, max_entries: int) -> None:
        super().__init__()
        self.max_entries = max_entries
        _register(name, self)

    def info(self) -> CacheInfo:
        """What it holds; nobody counts how often it was asked."""
        return CacheInfo(0, 0, len(self), self.max_entries, 0, None)


class _Remembered:
    """What `functools.lru_cache` keeps for a function."""

    def __init__(self, function: Any) -> None:
        self.clear = function.cache_clear
        self._function = function

    def info(self) -> CacheInfo:
        told = self._function.cache_info()
        return CacheInfo(told.hits, told.misses, told.currsize, told.maxsize, 0, None)


def remembering(name: str, max_entries: int) -> Callable[[Function], Function]:
    """A decorator: `functools.lru_cache` for a function of few values, in the registry."""

    def decorated(function: Function) -> Function:
        kept: Any = functools.lru_cache(maxsize=max_entries)(function)
        _register(name, _Remembered(kept))
        return kept

    return decorated


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

    Answers stay the same; the next call of each function compiles again. What `jax.jit` keeps for
    functions of your own is JAX's, see `jax.clear_caches`.

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
    """What each of the library's caches holds.

    Returns:
        For the name of each cache its hits, misses, entries, and bytes, with the bounds. Bytes of
        compiled programs are estimated.

    Examples:
        >>> import blockjac, jax.numpy as jnp
        >>> slope = blockjac.grad(lambda x: x**2)(3.0)
        >>> blockjac.cache_info()["programs"].max_entries
        512
    """
    return {name: cache.info() for name, cache in _registry.items()}
