"""Source of helpers: sliding windows and convolutions."""

WINDOWS = '''
def _windows(x, fill, sizes, strides, padding, gaps, dilation):
    """Sliding windows of a padded array; their own axes come last."""
    x = _pad(x, fill, [(*pad, gap - 1) for pad, gap in zip(padding, gaps, strict=True)])
    spans = [(size - 1) * step + 1 for size, step in zip(sizes, dilation, strict=True)]
    if any(span > size for span, size in zip(spans, x.shape, strict=True)):
        counts = [max(size - span + 1, 0) for span, size in zip(spans, x.shape, strict=True)]
        outer = [-(-count // stride) for count, stride in zip(counts, strides, strict=True)]
        return np.zeros((*outer, *sizes), x.dtype)
    windows = np.lib.stride_tricks.sliding_window_view(x, spans)
    steps = (*strides, *dilation)
    return windows[tuple(slice(None, None, step) for step in steps)]


def _pick(values, windows, argument):
    """Of each window the value at the place of the first extreme entry of the other windows."""
    rank = windows.ndim // 2
    shape = windows.shape[:rank]
    place = argument(windows.reshape(*shape, -1), axis=-1)
    return np.take_along_axis(values.reshape(*shape, -1), place[..., None], -1)[..., 0]


def _add_at_extremes(source, x, fill, argument, sizes, strides, padding):
    """Add each entry of the source where its window of x has its first extreme entry."""
    ones = (1,) * x.ndim
    numbers = np.arange(x.size).reshape(x.shape)
    places = _windows(numbers, -1, sizes, strides, padding, ones, ones)
    chosen = _pick(places, _windows(x, fill, sizes, strides, padding, ones, ones), argument)
    result = np.zeros(x.size + 1, source.dtype)
    np.add.at(result, chosen, source)
    return result[:-1].reshape(x.shape)


def _convolve(x, kernel, strides, padding, gaps, dilation, feature_groups, batch_groups):
    """Convolve a batch (examples, features, ...) with a kernel (outputs, features, ...)."""
    rank = x.ndim - 2
    x = _pad(x, 0, [(0, 0, 0)] * 2 + [(*p, gap - 1) for p, gap in zip(padding, gaps, strict=True)])
    examples, features = x.shape[:2]
    outputs, inner = kernel.shape[:2]
    spans = [(size - 1) * step + 1 for size, step in zip(kernel.shape[2:], dilation, strict=True)]
    counts = [max(size - span + 1, 0) for span, size in zip(spans, x.shape[2:], strict=True)]
    counts = [-(-count // stride) for count, stride in zip(counts, strides, strict=True)]
    if 0 in counts:
        dtype = np.result_type(x, kernel)
        return np.zeros((examples // batch_groups, outputs, *counts), dtype)
    windows = np.lib.stride_tricks.sliding_window_view(x, spans, tuple(range(2, rank + 2)))
    steps = (*strides, *dilation)
    windows = windows[(slice(None), slice(None), *(slice(None, None, step) for step in steps))]
    groups = feature_groups * batch_groups
    windows = windows.reshape(
        batch_groups, examples // batch_groups, feature_groups, inner, *windows.shape[2:]
    )
    kernel = kernel.reshape(batch_groups, feature_groups, outputs // groups, *kernel.shape[1:])
    space, window = list(range(5, 5 + rank)), list(range(5 + rank, 5 + 2 * rank))
    result = np.einsum(
        windows, [0, 1, 2, 3, *space, *window], kernel, [0, 2, 4, 3, *window], [1, 0, 2, 4, *space]
    )
    return result.reshape(examples // batch_groups, outputs, *counts)
'''
