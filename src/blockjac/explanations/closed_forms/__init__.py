"""Jacobians in closed form, of primitives that are applied as maps: `dL = L phi(L^-1 dA L^-T)`."""

from blockjac.explanations.closed_forms import (
    fourier,  # pyright: ignore[reportUnusedImport]  # noqa: F401
    pivoted,  # pyright: ignore[reportUnusedImport]  # noqa: F401
    spectral,  # pyright: ignore[reportUnusedImport]  # noqa: F401
    triangular,  # pyright: ignore[reportUnusedImport]  # noqa: F401
)
