"""Source of helpers: linear algebra."""

LINALG = '''
def _lu(a):
    """The factors L and U in one matrix, the pivots, and the permutation of the rows."""
    *batch, rows, columns = a.shape
    factors, pivots = np.empty_like(a), np.empty((*batch, min(rows, columns)), np.int32)
    for place in np.ndindex(*batch):
        factors[place], pivots[place] = linalg.lu_factor(a[place], check_finite=False)
    return factors, pivots, _permutation(pivots, rows)


def _permutation(pivots, size):
    """The permutation that a row of exchanges gives."""
    *batch, count = pivots.shape
    order = np.broadcast_to(np.arange(size, dtype=np.int32), (*batch, size)).copy()
    for place in np.ndindex(*batch):
        for n in range(count):
            m = pivots[(*place, n)]
            order[(*place, n)], order[(*place, m)] = order[(*place, m)], order[(*place, n)]
    return order


def _solve_triangular(a, b, *, lower, transposed="N", unit_diagonal=False):
    """Solve a @ x = b for triangular matrices."""
    x = np.empty(b.shape, np.result_type(a, b))
    for place in np.ndindex(*a.shape[:-2]):
        x[place] = linalg.solve_triangular(
            a[place],
            b[place],
            lower=lower,
            trans=transposed,
            unit_diagonal=unit_diagonal,
            check_finite=False,
        )
    return x


def _solve_tridiagonal(below, diagonal, above, b):
    """Solve tridiagonal systems; the first entry below and the last above do not count."""
    x = np.empty(b.shape, b.dtype)
    for place in np.ndindex(*diagonal.shape[:-1]):
        bands = np.zeros((3, diagonal.shape[-1]), b.dtype)
        bands[0, 1:] = above[place][:-1]
        bands[1] = diagonal[place]
        bands[2, :-1] = below[place][1:]
        x[place] = linalg.solve_banded((1, 1), bands, b[place], check_finite=False)
    return x
'''
