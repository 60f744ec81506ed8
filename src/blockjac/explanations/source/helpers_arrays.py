"""Source of helpers: padding, integer arithmetic, complex numbers."""

ARRAYS = '''
def _pad(x, value, widths):
    """Pad each axis by (before, after, gap): negative widths cut, gaps are between entries."""
    for axis, (before, after, gap) in enumerate(widths):
        last = (x.shape[axis] - 1) * (gap + 1)
        places = np.arange(max(before + after + max(last + 1, 0), 0)) - before
        inside = (places >= 0) & (places <= last) & (places % (gap + 1) == 0)
        shape = (*x.shape[:axis], len(places), *x.shape[axis + 1 :])
        padded = np.full(shape, value, x.dtype)
        source = np.moveaxis(x, axis, 0)[places[inside] // (gap + 1)]
        np.moveaxis(padded, axis, 0)[inside] = source
        x = padded
    return x


def _divide_integers(x, y):
    """The quotient rounded towards zero; -1 for a division by zero."""
    safe = np.where(y == 0, 1, y)
    quotient = np.floor_divide(x, safe)
    quotient = quotient + ((quotient < 0) & (quotient * safe != x))
    return np.where(y == 0, -1, quotient).astype(np.result_type(x, y))


def _complex(real, imaginary):
    """The complex number of two parts."""
    real, imaginary = np.broadcast_arrays(real, imaginary)
    result = np.empty(real.shape, np.result_type(real, np.complex64))
    result.real, result.imag = real, imaginary
    return result


def _round_away(x):
    """To the nearest whole number; halves away from zero."""
    whole = np.trunc(x)
    return whole + np.where(np.abs(x - whole) >= 0.5, np.sign(x), 0)


def _bits(x):
    """The number of bits of an integer."""
    return np.asarray(x).dtype.itemsize * 8


def _shift_left(x, count):
    """Shift the bits up; by their number or more, nothing is left."""
    outside = (count < 0) | (count >= _bits(x))
    amount = np.where(outside, 0, count).astype(np.asarray(x).dtype)
    return np.where(outside, 0, np.left_shift(x, amount))


def _shift_right(x, count):
    """Shift the bits down and repeat the first one."""
    x = np.asarray(x)
    signed = x.view(x.dtype.str.replace("u", "i"))
    outside = (count < 0) | (count >= _bits(x))
    amount = np.where(outside, _bits(x) - 1, count).astype(signed.dtype)
    return np.right_shift(signed, amount).view(x.dtype)


def _shift_right_logical(x, count):
    """Shift the bits down, with zeros from above."""
    x = np.asarray(x)
    unsigned = x.view(x.dtype.str.replace("i", "u"))
    outside = (count < 0) | (count >= _bits(x))
    amount = np.where(outside, 0, count).astype(unsigned.dtype)
    shifted = np.where(outside, 0, np.right_shift(unsigned, amount))
    return shifted.astype(unsigned.dtype).view(x.dtype)


def _leading_zeros(x):
    """How many bits before the first that is set."""
    x = np.asarray(x)
    rest = x.view(x.dtype.str.replace("i", "u"))
    count = np.full(x.shape, _bits(x), x.dtype)
    while np.any(rest):
        count = count - (rest != 0).astype(x.dtype)
        rest = rest >> np.ones((), rest.dtype)
    return count


def _fold(function, operands, initial, axes):
    """Join the entries along some axes by a function, starting from the initial values."""
    rank = operands[0].ndim
    rest = [axis for axis in range(rank) if axis not in axes]
    shape = [operands[0].shape[axis] for axis in rest]
    count = int(np.prod([operands[0].shape[axis] for axis in axes]))
    rows = [x.transpose(*axes, *rest).reshape(count, *shape) for x in operands]
    state = tuple(np.broadcast_to(x, shape) for x in initial)
    for n in range(count):
        state = function(*state, *(x[n] for x in rows))
        state = state if isinstance(state, tuple) else (state,)
    return state
'''
