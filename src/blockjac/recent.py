"""What is made once and kept while it is among the most recently used."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

_lock = threading.Lock()


def made_once(kept: OrderedDict[Any, Any], key: Any, make: Callable[[], Any], most: int) -> Any:
    """The value of a key, made if it is not there; the least recently used over `most` is dropped.

    Args:
        kept: the values by key; changed.
        key: hashable.
        make: gives the value; quick, as other threads wait for it.
        most: how many values are kept.
    """
    with _lock:
        if key not in kept:
            kept[key] = make()
        kept.move_to_end(key)
        value = kept[key]
        while len(kept) > most:
            kept.popitem(last=False)
        return value
