"""Source of helpers: reads and writes at computed places, and order."""

INDEXING = '''
def _places(shape, starts, sizes, start_axes, dropped_axes, batch_axes, start_batch_axes):
    """Indices of the windows at some starts, and which windows are in bounds."""
    rank = starts.ndim - 1
    kept = [axis for axis in range(len(shape)) if axis not in (*dropped_axes, *batch_axes)]
    inside = np.ones(starts.shape[:-1], bool)
    places = []
    for axis, size in enumerate(shape):
        first = np.zeros((1,) * rank, int)
        if axis in start_axes:
            start = starts[..., start_axes.index(axis)]
            last = size - sizes[axis]
            inside &= (start >= 0) & (start <= last)
            first = np.clip(start, 0, last).astype(int)
        elif axis in batch_axes:
            which = start_batch_axes[batch_axes.index(axis)]
            first = np.arange(size).reshape([-1 if n == which else 1 for n in range(rank)])
        first = first.reshape(first.shape + (1,) * len(kept))
        if axis in kept:
            after = len(kept) - 1 - kept.index(axis)
            first = first + np.arange(sizes[axis]).reshape((-1,) + (1,) * after)
        places.append(first)
    windows = tuple(sizes[axis] for axis in kept)
    return [np.broadcast_to(place, inside.shape + windows) for place in places], inside


def _gather(
    x,
    starts,
    sizes,
    *,
    start_axes,
    dropped_axes,
    offset_axes,
    fill=None,
    batch_axes=(),
    start_batch_axes=(),
):
    """The windows of x at some starts, those out of bounds moved inside, or filled."""
    places, inside = _places(
        x.shape, starts, sizes, start_axes, dropped_axes, batch_axes, start_batch_axes
    )
    result = x[tuple(places)]
    if fill is not None:
        inside = inside.reshape(inside.shape + (1,) * (result.ndim - inside.ndim))
        result = np.where(inside, result, fill)
    return np.moveaxis(result, range(starts.ndim - 1, result.ndim), offset_axes)


def _scatter(
    update,
    x,
    starts,
    updates,
    *,
    start_axes,
    dropped_axes,
    window_axes,
    clip=False,
    batch_axes=(),
    start_batch_axes=(),
):
    """A copy of x with windows updated; those out of bounds are dropped, or moved inside."""
    updates = np.moveaxis(updates, window_axes, range(starts.ndim - 1, updates.ndim))
    windows = iter(updates.shape[starts.ndim - 1 :])
    dropped = (*dropped_axes, *batch_axes)
    sizes = [1 if axis in dropped else next(windows) for axis in range(x.ndim)]
    places, inside = _places(
        x.shape, starts, sizes, start_axes, dropped_axes, batch_axes, start_batch_axes
    )
    inside = np.ones_like(inside) if clip else inside
    index = tuple(place[inside] for place in places)
    result = np.array(x)
    if update is None:
        result[index] = updates[inside]
    else:
        update.at(result, index, updates[inside])
    return result


def _set_at(x, index, values):
    """A copy of x with other values at some places."""
    result = np.array(x)
    result[index] = values
    return result


def _update_at(update, x, index, values):
    """A copy of x with values joined in at some places, also at those that repeat."""
    result = np.array(x)
    update.at(result, index, values)
    return result


def _window(shape, starts, sizes):
    """Slices of some sizes whose starts are moved inside of the shape."""
    last = np.subtract(shape, sizes)
    starts = [min(max(int(start), 0), int(end)) for start, end in zip(starts, last, strict=True)]
    return tuple(slice(start, start + size) for start, size in zip(starts, sizes, strict=True))


def _dynamic_slice(x, starts, sizes):
    """A window of x that starts at computed places."""
    return x[_window(x.shape, starts, sizes)]


def _update_slice(x, update, starts):
    """A copy of x with a window overwritten."""
    result = np.array(x)
    result[_window(x.shape, starts, update.shape)] = update
    return result


def _sort(operands, *, axis, keys):
    """All operands in the order of the first ones."""
    order = np.lexsort(operands[:keys][::-1], axis=axis)
    return tuple(np.take_along_axis(x, order, axis) for x in operands)


def _top_k(x, k, axis=-1):
    """The k largest entries along an axis, and where they are; of equals, the first ones."""
    last = x.shape[axis] - 1
    order = np.flip(np.argsort(np.flip(x, axis), axis=axis, kind="stable"), axis)
    order = last - np.take(order, np.arange(k), axis=axis)
    return np.take_along_axis(x, order, axis), order.astype(np.int32)


def _bottom_k(x, k, axis=-1):
    """The k smallest entries along an axis, and where they are."""
    order = np.take(np.argsort(x, axis=axis, kind="stable"), np.arange(k), axis=axis)
    return np.take_along_axis(x, order, axis), order.astype(np.int32)
'''
