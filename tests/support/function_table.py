"""The public functions of JAX that have a derivative, one call of each.

A row's key is the function's public name below `jax`, after which a remark may follow; the shapes
are small, so that the whole table stays cheap.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import partial
from operator import attrgetter
from typing import Any

import jax
import jax.numpy as jnp
import jax.scipy as jsp
import jax.scipy.signal
import jax.scipy.stats
import numpy as np
from jax import lax
from support.cases import Case

Domain = tuple[float, float]
FORWARD, REVERSE = "forward", "reverse"


@dataclass(frozen=True)
class Row(Case):
    """One call.

    Attributes:
        refusal: the error that JAX and we raise, where there is no derivative.
        slow: whether it takes seconds to compile.
        rtol: how well both agree.
    """

    refusal: type[Exception] | tuple[type[Exception], ...] | None = None
    slow: bool = False
    rtol: float = 1e-9


def resolved(name: str) -> Callable[..., Any]:
    """The function of a public name below `jax`."""
    return attrgetter(name)(jax)


def family(module: str, names: str, *arguments: Any, domain: Domain = (-2, 2)) -> dict[str, Row]:
    """Rows of functions that take the same arguments."""
    keys = [f"{module}.{name}" for name in names.split()]
    return {key: Row(resolved(key), arguments, *domain) for key in keys}


def calls(
    module: str, *, domain: Domain = (-2, 2), **rows: tuple[Callable[..., Any], Sequence[Any]]
) -> dict[str, Row]:
    """Rows of functions that are called in a way of their own: a function and its arguments."""
    return {
        f"{module}.{name}": Row(function, tuple(arguments), *domain)
        for name, (function, arguments) in rows.items()
    }


def parts(function: Callable[..., Any]) -> Callable[..., Any]:
    """Complex results as their real and imaginary parts."""

    def real_and_imaginary(*arguments: Any) -> Any:
        return [
            [one.real, one.imag] if jnp.iscomplexobj(one) else one
            for one in jax.tree.leaves(function(*arguments))
        ]

    return real_and_imaginary


def positive(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of a symmetric positive definite matrix."""
    return lambda x, *others: function(x @ x.T + 3 * jnp.eye(len(x)), *others)


V, W, S, M, N = (3,), (4,), (), (2, 3), (3, 3)
UNIT, POSITIVE, SMALL = (0.1, 0.9), (0.3, 2.5), (-0.9, 0.9)
KEY = jax.random.key(0)

TABLE: dict[str, Row] = {}

# Elementwise

TABLE |= family(
    "numpy",
    "abs arctan arcsinh cbrt cos cosh deg2rad exp exp2 expm1 fabs negative positive rad2deg "
    "reciprocal sin sinc sinh square tanh tan i0 nan_to_num real conjugate trunc ceil floor "
    "rint sign modf degrees radians ediff1d diff gradient unwrap round",
    V,
)
TABLE |= family("numpy", "sqrt log log10 log1p log2", V, domain=POSITIVE)
TABLE |= family("numpy", "arccos arcsin arctanh", V, domain=SMALL)
TABLE |= family("numpy", "arccosh", V, domain=(1.2, 3))
TABLE |= family(
    "numpy",
    "add subtract multiply maximum minimum fmax fmin hypot logaddexp logaddexp2 arctan2 copysign "
    "heaviside",
    M,
    V,
)
TABLE |= family(
    "numpy", "divide power float_power fmod remainder floor_divide divmod", M, V, domain=POSITIVE
)
TABLE |= calls(
    "numpy",
    clip=(jnp.clip, (W, S, np.float64(3))),
    where=(lambda x, y: jnp.where(x > 0, x, y), (V, V)),
    select=(lambda x, y: jnp.select([x > 1, y > 0], [x, y * y], 0.5), (V, V)),
    piecewise=(lambda x: jnp.piecewise(x, [x < 0, x >= 0], [jnp.sin, jnp.cos]), (V,)),
    choose=(lambda x, y: jnp.choose(jnp.array([0, 1, 0]), [x, y], mode="clip"), (V, V)),
    ldexp=(lambda x: jnp.ldexp(x, jnp.array([1, 2, -1])), (V,)),
    frexp=(lambda x: jnp.frexp(x)[0], (V,)),
    angle=(lambda x, y: jnp.angle(x + 1j * y), (V, V)),
    imag=(lambda x, y: jnp.imag(x * (x + 1j * y)), (V, V)),
    interp=(lambda x, xp, fp: jnp.interp(x, jnp.cumsum(jnp.exp(xp)), fp), (V, W, W)),
    polyval=(jnp.polyval, (V, W)),
    vectorize=(jnp.vectorize(jnp.inner, signature="(n),(n)->()"), (M, V)),
    apply_along_axis=(lambda x: jnp.apply_along_axis(jnp.cumsum, 1, x), (M,)),
    apply_over_axes=(lambda x: jnp.apply_over_axes(jnp.sum, x, (0, 1)), (M,)),
    frompyfunc=(lambda x, y: jnp.frompyfunc(lambda a, b: a * b, 2, 1).outer(x, y), (V, V)),
    astype=(lambda x: jnp.astype(x, jnp.float64), (V,)),
    around=(lambda x: x * jnp.around(x), (V,)),
)

# Reductions and running results

TABLE |= family(
    "numpy",
    "sum mean prod max min var std nansum nanmean nanprod nanmax nanmin nanvar nanstd median "
    "nanmedian ptp cumsum cumprod nancumsum nancumprod sort trace cov corrcoef average",
    N,
)
TABLE |= calls(
    "numpy",
    quantile=(lambda x, q: jnp.quantile(x, q), (W, np.float64(0.3))),
    percentile=(lambda x: jnp.percentile(x, 30.0, axis=0), (N,)),
    nanquantile=(lambda x: jnp.nanquantile(x, 0.3), (W,)),
    nanpercentile=(lambda x: jnp.nanpercentile(x, 30.0), (W,)),
    cumulative_sum=(lambda x: jnp.cumulative_sum(x, include_initial=True), (V,)),
    cumulative_prod=(lambda x: jnp.cumulative_prod(x, include_initial=True), (V,)),
    partition=(lambda x: jnp.partition(x, 2), ((5,),)),
    trapezoid=(jnp.trapezoid, (V, V)),
    bincount=(lambda w: jnp.bincount(jnp.array([0, 2, 2]), w, length=3), (V,)),
    histogram=(lambda w: jnp.histogram(jnp.array([0.1, 0.9, 0.4]), 2, weights=w)[0], (V,)),
    argsort=(lambda x: x[jnp.argsort(x)], (W,)),
    argmax=(lambda x: x[jnp.argmax(x)], (W,)),
    unique=(lambda x: jnp.unique(x, size=3), (V,)),
)

# Products

TABLE |= family("numpy", "dot matmul inner", N, N)
TABLE |= family("numpy", "vdot vecdot cross convolve correlate", V, V)
TABLE |= family("numpy", "outer kron polyadd polysub polymul", V, W)
TABLE |= calls(
    "numpy",
    tensordot=(lambda x, y: jnp.tensordot(x, y, 1), ((2, 2, 3), (3, 2))),
    einsum=(lambda x, y, z: jnp.einsum("ij,jk,k->i", x, y, z), (M, N, V)),
    matvec=(jnp.matvec, (M, V)),
    vecmat=(jnp.vecmat, (V, N)),
    polyder=(lambda x: jnp.polyder(x, 2), (W,)),
    polyint=(jnp.polyint, (V,)),
    polydiv=(lambda x, y: jnp.polydiv(x, y + 3), (W, (2,))),
    polyfit=(lambda x, y: jnp.polyfit(x, y, 1), (W, W)),
    poly=(jnp.poly, (V,)),
    roots=(lambda x: jnp.sort(jnp.abs(jnp.roots(x, strip_zeros=False))), (V,)),
    vander=(lambda x: jnp.vander(x, 3), (V,)),
)

# Shapes and places

TABLE |= family(
    "numpy",
    "ravel transpose matrix_transpose fliplr flipud rot90 flip diag diagonal diagflat tril triu "
    "copy array asarray zeros_like atleast_1d atleast_2d atleast_3d squeeze",
    N,
)
TABLE |= calls(
    "numpy",
    reshape=(lambda x: jnp.reshape(x, (3, 2)), (M,)),
    permute_dims=(lambda x: jnp.permute_dims(x, (2, 0, 1)), ((2, 3, 2),)),
    swapaxes=(lambda x: jnp.swapaxes(x, 0, 1), (M,)),
    moveaxis=(lambda x: jnp.moveaxis(x, 0, 1), (M,)),
    rollaxis=(lambda x: jnp.rollaxis(x, 1), (M,)),
    expand_dims=(lambda x: jnp.expand_dims(x, 1), (M,)),
    broadcast_to=(lambda x: jnp.broadcast_to(x, (2, 3)), (V,)),
    broadcast_arrays=(lambda x, y: jnp.broadcast_arrays(x, y), (V, (2, 1))),
    concatenate=(lambda x, y: jnp.concatenate([x, y]), (V, W)),
    stack=(lambda x, y: jnp.stack([x, y], 1), (V, V)),
    hstack=(lambda x, y: jnp.hstack([x, y]), (V, W)),
    vstack=(lambda x, y: jnp.vstack([x, y]), (V, M)),
    dstack=(lambda x, y: jnp.dstack([x, y]), (M, M)),
    column_stack=(lambda x, y: jnp.column_stack([x, y]), (V, N)),
    block=(lambda x, y: jnp.block([[x, y], [y, x]]), (M, M)),
    split=(lambda x: jnp.split(x, 2), (W,)),
    array_split=(lambda x: jnp.array_split(x, 2), (V,)),
    hsplit=(lambda x: jnp.hsplit(x, 3), (M,)),
    vsplit=(lambda x: jnp.vsplit(x, 2), (M,)),
    dsplit=(lambda x: jnp.dsplit(x, 2), ((2, 1, 2),)),
    unstack=(jnp.unstack, (M,)),
    tile=(lambda x: jnp.tile(x, (2, 2)), (V,)),
    repeat=(lambda x: jnp.repeat(x, np.array([1, 0, 2]), axis=1), (M,)),
    roll=(lambda x: jnp.roll(x, 1), (V,)),
    pad=(lambda x: jnp.pad(x, 2, mode="reflect"), (V,)),
    resize=(lambda x: jnp.resize(x, (2, 4)), (V,)),
    append=(jnp.append, (V, W)),
    insert=(lambda x, y: jnp.insert(x, 1, y), (V, S)),
    delete=(lambda x: jnp.delete(x, 1), (V,)),
    fill_diagonal=(lambda x, y: jnp.fill_diagonal(x, y, inplace=False), (N, V)),
    meshgrid=(lambda x, y: jnp.meshgrid(x, y), (V, W)),
    take=(lambda x: jnp.take(x, jnp.array([2, 0]), 1), (M,)),
    take_along_axis=(lambda x: jnp.take_along_axis(x, jnp.array([[2], [0]]), 1), (M,)),
    put=(lambda x, y: jnp.put(x, jnp.array([2, 0]), y, inplace=False), (V, (2,))),
    put_along_axis=(
        lambda x, y: jnp.put_along_axis(x, jnp.array([[2], [0]]), y, 1, inplace=False),
        (M, (2, 1)),
    ),
    place=(
        lambda x, y: jnp.place(x, jnp.array([True, False, True]), y, inplace=False),
        (V, (2,)),
    ),
    compress=(lambda x: jnp.compress(jnp.array([True, False, True]), x, size=2), (V,)),
    extract=(lambda x: jnp.extract(jnp.array([True, False, True]), x, size=2), (V,)),
    linspace=(lambda x, y: jnp.linspace(x, y, 4), (S, S)),
    logspace=(lambda x, y: jnp.logspace(x, y, 4), (S, S)),
    geomspace=(lambda x, y: jnp.geomspace(jnp.exp(x), jnp.exp(y), 4), (S, S)),
    full=(lambda x: jnp.full((2, 2), x), (S,)),
    full_like=(lambda x, y: jnp.full_like(x, y), (V, S)),
)

# Linear algebra

TABLE |= family("numpy.linalg", "det slogdet inv matrix_norm norm trace svdvals pinv qr", N)
TABLE |= family("numpy.linalg", "outer vecdot", V, V)
TABLE |= calls(
    "numpy.linalg",
    cholesky=(positive(jnp.linalg.cholesky), (N,)),
    cond=(jnp.linalg.cond, (N,)),
    eigh=(positive(jnp.linalg.eigh), (N,)),
    eigvalsh=(positive(jnp.linalg.eigvalsh), (N,)),
    eigvals=(lambda x: jnp.sort(jnp.abs(jnp.linalg.eigvals(x))), (N,)),
    solve=(jnp.linalg.solve, (N, V)),
    lstsq=(lambda x, y: jnp.linalg.lstsq(x, y)[0], ((4, 3), W)),
    matrix_power=(lambda x: jnp.linalg.matrix_power(x, 3), (N,)),
    multi_dot=(lambda x, y, z: jnp.linalg.multi_dot([x, y, z]), (M, N, V)),
    svd=(lambda x: jnp.linalg.svd(x, full_matrices=False), (M,)),
    tensorinv=(lambda x: jnp.linalg.tensorinv(x, 1), (N,)),
    tensorsolve=(jnp.linalg.tensorsolve, (N, V)),
    vector_norm=(lambda x: jnp.linalg.vector_norm(x, ord=3), (V,)),
)
TABLE |= family("scipy.linalg", "block_diag", M, N)
TABLE |= family("scipy.linalg", "polar", N)
TABLE |= family("scipy.linalg", "toeplitz hankel", V, V)
TABLE |= calls(
    "scipy.linalg",
    cho_factor=(positive(lambda x: jsp.linalg.cho_factor(x)[0]), (N,)),
    cho_solve=(
        positive(lambda x, y: jsp.linalg.cho_solve((jnp.linalg.cholesky(x), True), y)),
        (N, V),
    ),
    lu=(lambda x: jsp.linalg.lu(x), (N,)),
    lu_factor=(lambda x: jsp.linalg.lu_factor(x)[0], (N,)),
    lu_solve=(lambda x, y: jsp.linalg.lu_solve(jsp.linalg.lu_factor(x), y), (N, V)),
    solve_triangular=(lambda x, y: jsp.linalg.solve_triangular(x, y, lower=True), (N, V)),
    circulant=(jsp.linalg.circulant, (V,)),
    companion=(jsp.linalg.companion, (V,)),
    convolution_matrix=(lambda x: jsp.linalg.convolution_matrix(x, 3), (V,)),
    fiedler=(jsp.linalg.fiedler, (V,)),
    leslie=(jsp.linalg.leslie, (V, (2,))),
)
TABLE |= calls(
    "scipy.linalg",
    expm=(jsp.linalg.expm, (N,)),
    expm_frechet=(lambda x, y: jsp.linalg.expm_frechet(x, y, compute_expm=False), (N, N)),
)

# Fourier transforms and signals

TABLE |= {
    f"numpy.fft.{name}": Row(parts(resolved(f"numpy.fft.{name}")), (shape,))
    for names, shape in (
        ("fft ifft rfft ihfft hfft irfft fftshift ifftshift", W),
        ("fft2 ifft2 rfft2 irfft2 fftn ifftn rfftn irfftn", M),
    )
    for name in names.split()
}
TABLE |= family("scipy.fft", "dct idct dctn idctn", M)
TABLE |= family("scipy.signal", "convolve correlate fftconvolve", V, W)
TABLE |= family("scipy.signal", "convolve2d correlate2d", N, (2, 2))
TABLE |= family("scipy.integrate", "trapezoid", V, V)
TABLE |= calls(
    "scipy",
    **{
        "signal.detrend": (jsp.signal.detrend, (W,)),
        "signal.stft": (parts(lambda x: jsp.signal.stft(x, nperseg=4)[2]), ((8,),)),
        "signal.istft": (
            lambda x, y: jsp.signal.istft(x + 1j * y, nperseg=4)[1],
            ((3, 5), (3, 5)),
        ),
        "signal.welch": (lambda x: jsp.signal.welch(x, nperseg=4)[1], ((8,),)),
        "signal.csd": (parts(lambda x, y: jsp.signal.csd(x, y, nperseg=4)[1]), ((8,), (8,))),
        "ndimage.map_coordinates": (
            lambda x, y: jsp.ndimage.map_coordinates(x, [y, y * y], 1, mode="nearest"),
            (N, V),
        ),
    },
)

# Neural networks

TABLE |= family(
    "nn",
    "relu relu6 sigmoid softplus sparse_plus sparse_sigmoid soft_sign silu log_sigmoid leaky_relu "
    "hard_sigmoid hard_silu hard_tanh elu celu selu gelu squareplus mish identity softmax "
    "log_softmax logsumexp logmeanexp standardize tanh",
    W,
)
TABLE |= family("nn", "log1mexp", V, domain=(0.1, 3))
TABLE |= calls(
    "nn",
    glu=(jax.nn.glu, ((3, 4),)),
    dot_product_attention=(jax.nn.dot_product_attention, ((1, 2, 1, 3),) * 3),
    one_hot=(lambda x: jax.nn.one_hot(jnp.array([0, 2]), 3) * x, (V,)),
)

# Special functions

TABLE |= family(
    "scipy.special",
    "dawsn erf erfc erfcx gamma gammaln gammasgn i0 i0e i1 i1e log_ndtr ndtr sici fresnel "
    "log_softmax softmax logsumexp expit",
    V,
)
TABLE |= family("scipy.special", "digamma entr exp1 expi factorial loggamma", V, domain=POSITIVE)
TABLE |= family("scipy.special", "erfinv logit ndtri", V, domain=UNIT)
TABLE |= family(
    "scipy.special",
    "beta betaln gammainc gammaincc kl_div rel_entr xlogy xlog1py boxcox boxcox1p poch",
    V,
    V,
    domain=POSITIVE,
)
TABLE |= calls(
    "scipy.special",
    domain=UNIT,
    betainc=(lambda x: jsp.special.betainc(2.5, 1.5, x), (V,)),
    expn=(lambda x: jsp.special.expn(2, x), (V,)),
    multigammaln=(lambda x: jsp.special.multigammaln(x + 3, 2), (V,)),
    polygamma=(lambda x: jsp.special.polygamma(1, x), (V,)),
    zeta=(lambda q: jsp.special.zeta(2.5, q), (V,)),
    bessel_jn=(lambda x: jsp.special.bessel_jn(x, v=2, n_iter=10), (V,)),
    hyp1f1=(lambda x: jsp.special.hyp1f1(1.0, 2.0, x), (V,)),
    hyp2f1=(lambda x: jsp.special.hyp2f1(1.0, 1.5, 2.0, x), (V,)),
    owens_t=(jsp.special.owens_t, (V, V)),
    comb=(jsp.special.comb, (V, V)),
    wofz=(parts(lambda x, y: jsp.special.wofz(x + 1j * y)), (V, V)),
    sph_harm_y=(
        parts(lambda x, y: jsp.special.sph_harm_y(jnp.array([2]), jnp.array([1]), x, y, n_max=2)),
        ((1,), (1,)),
    ),
)

# Statistics

for _distribution, _functions, _count, _domain in (
    ("norm", "cdf isf logcdf logpdf logsf pdf ppf sf", 1, UNIT),
    ("cauchy", "cdf isf logcdf logpdf logsf pdf ppf sf", 1, UNIT),
    ("expon", "cdf logcdf logpdf logsf pdf ppf sf", 1, UNIT),
    ("gumbel_l", "cdf logcdf logpdf logsf pdf sf", 1, UNIT),
    ("gumbel_r", "cdf logcdf logpdf logsf pdf sf", 1, UNIT),
    ("laplace", "cdf logpdf pdf", 1, UNIT),
    ("logistic", "cdf isf logpdf pdf ppf sf", 1, UNIT),
    ("uniform", "cdf logpdf pdf ppf", 1, UNIT),
    ("gamma", "cdf logcdf logpdf logsf pdf sf", 2, POSITIVE),
    ("chi2", "cdf logcdf logpdf logsf pdf sf", 2, POSITIVE),
    ("pareto", "cdf logcdf logpdf logsf pdf sf", 2, (1.2, 3)),
    ("t", "logpdf pdf", 2, POSITIVE),
    ("gennorm", "logpdf pdf cdf", 2, POSITIVE),
    ("vonmises", "logpdf pdf", 2, POSITIVE),
    ("wrapcauchy", "logpdf pdf", 2, UNIT),
    ("beta", "logpdf pdf", 3, UNIT),
):
    TABLE |= family(f"scipy.stats.{_distribution}", _functions, *[V] * _count, domain=_domain)
TABLE |= calls(
    "scipy.stats",
    domain=UNIT,
    **{
        f"{name}.{kind}": (partial(resolved(f"scipy.stats.{name}.{kind}"), given), (S,))
        for name, given in (("bernoulli", 1), ("geom", 3), ("poisson", 3))
        for kind in ("logpmf", "pmf")
    },
    **{
        "binom.logpmf": (lambda p: jsp.stats.binom.logpmf(2, 5, p), (S,)),
        "nbinom.logpmf": (lambda p: jsp.stats.nbinom.logpmf(2, 5, p), (S,)),
        "betabinom.logpmf": (lambda a, b: jsp.stats.betabinom.logpmf(2, 5, a, b), (S, S)),
        "multinomial.logpmf": (
            lambda p: jsp.stats.multinomial.logpmf(jnp.array([1, 2, 0]), 3, p),
            (V,),
        ),
        "poisson.cdf": (lambda x: jsp.stats.poisson.cdf(3, x), (S,)),
        "dirichlet.logpdf": (lambda x, a: jsp.stats.dirichlet.logpdf(x / x.sum(), a), (V, V)),
        "beta.cdf": (lambda x: jsp.stats.beta.cdf(x, 2.0, 3.0), (V,)),
        "truncnorm.logpdf": (lambda x: jsp.stats.truncnorm.logpdf(x, -1.0, 2.0), (V,)),
        "truncnorm.cdf": (lambda x: jsp.stats.truncnorm.cdf(x, -1.0, 2.0), (V,)),
        "multivariate_normal.logpdf": (
            lambda x, m, c: jsp.stats.multivariate_normal.logpdf(x, m, c @ c.T + jnp.eye(3)),
            (V, V, N),
        ),
        "gaussian_kde": (lambda x, y: jsp.stats.gaussian_kde(x)(y), ((5,), (2,))),
        "sem": (jsp.stats.sem, (N,)),
    },
)

# jax.lax, beyond what the functions above are made of

TABLE |= calls(
    "lax",
    cumlogsumexp=(lax.cumlogsumexp, (V,)),
    cummax=(lax.cummax, (V,)),
    cummin=(lambda x: lax.cummin(x, 1, reverse=True), (M,)),
    cumprod=(lambda x: lax.cumprod(x, 1), (M,)),
    associative_scan=(lambda x: lax.associative_scan(jnp.multiply, x), (W,)),
    reduce=(lambda x: lax.reduce(x, 0.0, lambda a, b: a + b + a * b, (1,)), (M,)),
    reduce_prod=(lambda x: lax.reduce_prod(x, (0,)), (M,)),
    clamp=(lambda x: lax.clamp(-0.5, x, 0.7), (W,)),
    batch_matmul=(lax.batch_matmul, ((2, 2, 3), (2, 3, 2))),
    dot=(lax.dot, (M, V)),
    dot_general=(lambda x, y: lax.dot_general(x, y, (((1,), (1,)), ((0,), (0,)))), (M, M)),
    broadcast=(lambda x: lax.broadcast(x, (2,)), (V,)),
    collapse=(lambda x: lax.collapse(x, 0, 2), (M,)),
    complex=(parts(lax.complex), (V, V)),
    conv=(lambda x, k: lax.conv(x, k, (1, 1), "SAME"), ((1, 1, 3, 3), (1, 1, 2, 2))),
    conv_general_dilated=(
        lambda x, k: lax.conv_general_dilated(
            x, k, (2,), [(1, 2)], (2,), (2,), feature_group_count=2
        ),
        ((2, 2, 4), (2, 1, 2)),
    ),
    conv_general_dilated_local=(
        lambda x, k: lax.conv_general_dilated_local(x, k, (1,), "VALID", (2,)),
        ((1, 1, 4), (1, 2, 3)),
    ),
    conv_general_dilated_patches=(
        lambda x: lax.conv_general_dilated_patches(x, (2,), (1,), "VALID"),
        ((1, 2, 4),),
    ),
    conv_transpose=(
        lambda x, k: lax.conv_transpose(x, k, (2,), "SAME"),
        ((1, 3, 1), (2, 1, 1)),
    ),
    conv_with_general_padding=(
        lambda x, k: lax.conv_with_general_padding(x, k, (1,), [(1, 0)], None, None),
        ((1, 1, 4), (1, 1, 2)),
    ),
    fft=(parts(lambda x: lax.fft(x + 0j, "FFT", (4,))), (W,)),
    dynamic_index_in_dim=(lambda x: lax.dynamic_index_in_dim(x, jnp.array(1), 1), (M,)),
    dynamic_slice=(lambda x: lax.dynamic_slice(x, (jnp.array(1),), (2,)), (W,)),
    dynamic_slice_in_dim=(lambda x: lax.dynamic_slice_in_dim(x, jnp.array(9), 2), (W,)),
    dynamic_update_index_in_dim=(
        lambda x, y: lax.dynamic_update_index_in_dim(x, y, jnp.array(1), 0),
        (M, V),
    ),
    dynamic_update_slice=(
        lambda x, y: lax.dynamic_update_slice(x, y, (jnp.array(1),)),
        (W, (2,)),
    ),
    dynamic_update_slice_in_dim=(
        lambda x, y: lax.dynamic_update_slice_in_dim(x, y, jnp.array(1), 0),
        (W, (2,)),
    ),
    index_in_dim=(lambda x: lax.index_in_dim(x, 1, 1), (M,)),
    index_take=(lambda x: lax.index_take(x, (jnp.array([2, 0]),), (1,)), (M,)),
    slice=(lambda x: lax.slice(x, (1,), (4,), (2,)), (W,)),
    slice_in_dim=(lambda x: lax.slice_in_dim(x, 1, 3, axis=1), (M,)),
    rev=(lambda x: lax.rev(x, (1,)), (M,)),
    pad=(lambda x: lax.pad(x, 0.0, ((1, -1, 1),)), (V,)),
    select_n=(lambda x, y: lax.select_n(x > y, x, y), (V, V)),
    sort_key_val=(lambda x, y: lax.sort_key_val(x, y), (V, V)),
    top_k=(lambda x: lax.top_k(x, 2)[0], (M,)),
    approx_max_k=(lambda x: lax.approx_max_k(x, 2)[0], (M,)),
    approx_min_k=(lambda x: lax.approx_min_k(x, 2)[0], (M,)),
    integer_pow=(lambda x: lax.integer_pow(x, -3), (V,)),
    stop_gradient=(lambda x: x * lax.stop_gradient(x), (V,)),
    optimization_barrier=(lax.optimization_barrier, (V,)),
    igamma=(lambda a, x: lax.igamma(jnp.exp(a), jnp.exp(x)), (V, V)),
    scan=(lambda x, y: lax.scan(lambda c, s: (c * s + y, jnp.sin(c)), y, x), (V, S)),
    cond=(lambda x: lax.cond(x[0] > 0, jnp.sin, jnp.cos, x), (V,)),
    switch=(lambda i, x: lax.switch(i, [jnp.sin, jnp.cos, jnp.tanh], x), (np.int32(1), V)),
    fori_loop=(lambda x: lax.fori_loop(0, 3, lambda i, c: jnp.sin(c) * (i + 1), x), (V,)),
    map=(lambda x: lax.map(jnp.cumsum, x), (M,)),
    custom_root=(
        lambda a: lax.custom_root(
            lambda x: x**3 - jnp.exp(a),
            jnp.ones(3),
            lambda f, x: jnp.exp(a / 3) + 0 * x,
            lambda g, y: y / g(jnp.ones(3)),
        ),
        (V,),
    ),
    custom_linear_solve=(
        lambda d, b: lax.custom_linear_solve(
            lambda x: d * x, b, lambda _, y: y / d, symmetric=True
        ),
        (V, V),
    ),
    platform_dependent=(lambda x: lax.platform_dependent(x, cpu=jnp.sin, default=jnp.cos), (V,)),
)
TABLE["lax.while_loop"] = Row(
    lambda x: lax.while_loop(lambda c: jnp.sum(c) < 9, lambda c: c * c + 1, x),
    (V,),
    modes=(FORWARD,),
)


def scattering(function: Callable[..., Any]) -> Callable[..., Any]:
    """A scatter of two entries to places that differ."""
    numbers = lax.ScatterDimensionNumbers((), (0,), (0,))
    return lambda x, u: function(x, jnp.array([[3], [0]]), u, numbers, unique_indices=True)


TABLE |= {
    f"lax.{function.__name__}": Row(scattering(function), (W, (2,)))
    for function in (
        lax.scatter,
        lax.scatter_add,
        lax.scatter_sub,
        lax.scatter_mul,
        lax.scatter_min,
        lax.scatter_max,
    )
}
TABLE |= calls(
    "lax",
    gather=(
        lambda x: lax.gather(
            x,
            jnp.array([[0, 1], [1, 2]]),
            lax.GatherDimensionNumbers((1,), (1,), (0, 1)),
            (2, 1),
        ),
        (N,),
    ),
)
_eig = partial(lax.linalg.eig, compute_left_eigenvectors=False, compute_right_eigenvectors=False)
TABLE |= calls(
    "lax.linalg",
    cholesky=(positive(lax.linalg.cholesky), (N,)),
    eig=(lambda x: jnp.sort(jnp.abs(_eig(x)[0])), (N,)),
    lu=(lambda x: lax.linalg.lu(x)[0], (N,)),
    triangular_solve=(
        lambda x, y: lax.linalg.triangular_solve(x, y, left_side=True, transpose_a=True),
        (N, (3, 2)),
    ),
    tridiagonal_solve=(
        lambda a, b, c, y: lax.linalg.tridiagonal_solve(a.at[0].set(0), b + 5, c.at[-1].set(0), y),
        (V, V, V, (3, 1)),
    ),
)

# Random numbers, by their parameters

TABLE |= calls(
    "random",
    domain=POSITIVE,
    gamma=(lambda a: jax.random.gamma(KEY, a), (V,)),
    loggamma=(lambda a: jax.random.loggamma(KEY, a), (V,)),
    beta=(lambda a, b: jax.random.beta(KEY, a, b), (V, V)),
    chisquare=(lambda a: jax.random.chisquare(KEY, a), (V,)),
    dirichlet=(lambda a: jax.random.dirichlet(KEY, a), (V,)),
    f=(lambda a, b: jax.random.f(KEY, a, b), (V, V)),
    t=(lambda a: jax.random.t(KEY, a), (V,)),
    generalized_normal=(lambda a: jax.random.generalized_normal(KEY, a, (3,)), (S,)),
    lognormal=(lambda a: jax.random.lognormal(KEY, a), (V,)),
    multivariate_normal=(
        lambda m, c: jax.random.multivariate_normal(KEY, m, c @ c.T + jnp.eye(3)),
        (V, N),
    ),
    pareto=(lambda a: jax.random.pareto(KEY, a), (V,)),
    rayleigh=(lambda a: jax.random.rayleigh(KEY, a), (V,)),
    triangular=(lambda a, b: jax.random.triangular(KEY, -a, 0 * b, b), (V, V)),
    truncated_normal=(lambda a, b: jax.random.truncated_normal(KEY, -a, b), (V, V)),
    uniform=(lambda a, b: jax.random.uniform(KEY, (3,), minval=-a, maxval=b), (V, V)),
    wald=(lambda a: jax.random.wald(KEY, a), (V,)),
    weibull_min=(lambda a, b: jax.random.weibull_min(KEY, a, b), (V, V)),
    double_sided_maxwell=(
        lambda a, b: jax.random.double_sided_maxwell(KEY, a, b, (3,)),
        (S, S),
    ),
    permutation=(lambda x: jax.random.permutation(KEY, x), (W,)),
    choice=(lambda x: jax.random.choice(KEY, x, (2,)), (W,)),
    normal=(lambda m: m + m * jax.random.normal(KEY, (3,)), (V,)),
)

# Options of some rows

for _names, _options in (
    ("nn.dot_product_attention", {"rtol": 1e-5}),  # its scores are float32
    ("scipy.linalg.polar", {"modes": (FORWARD,)}),  # holds a while loop
):
    TABLE |= {name: replace(TABLE[name], **_options) for name in _names.split()}

SLOW = """
    scipy.linalg.* scipy.signal.* scipy.fft.* scipy.special.* scipy.ndimage.* scipy.stats.*cdf
    scipy.stats.*sf scipy.stats.gamma.* scipy.stats.chi2.* scipy.stats.beta* scipy.stats.t.*
    scipy.stats.gennorm.* scipy.stats.norm.?*f scipy.stats.gaussian_kde random.* numpy.linalg.*
    numpy.roots numpy.polyfit numpy.polydiv nn.dot_product_attention
"""
TABLE |= {
    name: replace(row, slow=True)
    for name, row in TABLE.items()
    if any(fnmatchcase(name, pattern) for pattern in SLOW.split())
}

# Where JAX has no derivative, nor we

NO_RULE = (ValueError, NotImplementedError)

TABLE |= {
    "lax.betainc by a": Row(lax.betainc, (V, V, V), *UNIT, refusal=NO_RULE),
    "scipy.linalg.schur": Row(jsp.linalg.schur, (N,), refusal=NotImplementedError),
    "scipy.linalg.hessenberg": Row(jsp.linalg.hessenberg, (N,), refusal=NotImplementedError),
    "scipy.linalg.qr_multiply": Row(
        lambda x, y: jsp.linalg.qr_multiply(x, y)[0], (N, V), refusal=NotImplementedError
    ),
    "scipy.stats.gumbel_l.ppf": Row(jsp.stats.gumbel_l.ppf, (V,), *UNIT, refusal=TypeError),
    "lax.scatter_apply": Row(
        lambda x: lax.scatter_apply(
            x,
            jnp.array([[3], [0]]),
            jnp.sin,
            lax.ScatterDimensionNumbers((), (0,), (0,)),
            update_shape=(2,),
        ),
        (W,),
        refusal=NotImplementedError,
    ),
}

# Where we have a derivative and JAX has none, or nan: compared with differences

BETTER = {
    "lax.clamp by its bounds": Row(lax.clamp, (np.float64(-0.5), W, np.float64(0.7))),
    "lax.reduce_window": Row(
        lambda x: lax.reduce_window(
            x, 0.0, lambda a, b: a + b + a * b, (2, 3), (1, 2), "SAME", (1, 2), (1, 1)
        ),
        (M,),
    ),
    "lax.reduce of one of two arrays": Row(
        lambda x, y: lax.reduce(
            (x, y), (1.0, 0.0), lambda a, b: (a[0] * b[0], a[1] * b[0] + b[1]), (1,)
        )[1],
        (M, M),
    ),
    "lax.scatter_min clipped": Row(
        lambda x, u: x.at[jnp.array([-9, 0, 9])].min(u, mode="clip"), (W, V)
    ),
    "scipy.special.spence": Row(jsp.special.spence, (V,), *POSITIVE, slow=True),
    "lax.composite": Row(lax.composite(jnp.sin, "my.sine"), (V,)),
    "lax.zeta": Row(lambda q: lax.zeta(jnp.full(3, 2.5), jnp.exp(q)), (V,)),
    "scipy.stats.poisson.entropy": Row(jsp.stats.poisson.entropy, (S,), *UNIT, slow=True),
    "lax.scatter_mul of repeated places": Row(
        lambda x, u: x.at[jnp.array([1, 0, 1, 1, 0])].multiply(u), (W, (5,))
    ),
    "lax.scatter_mul of zeros": Row(
        lambda x, u: x.at[jnp.array([1, 0, 1, 1])].multiply(u, mode="drop"),
        (W, np.array([0.0, 2.0, 3.0, 0.0])),
    ),
}
