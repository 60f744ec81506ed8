"""Elementwise primitives that are one operator, or one function of each array module."""

OPERATORS = {
    "add": "+",
    "add_any": "+",
    "sub": "-",
    "mul": "*",
    "eq": "==",
    "ne": "!=",
    "lt": "<",
    "le": "<=",
    "gt": ">",
    "ge": ">=",
    "and": "&",
    "or": "|",
    "xor": "^",
}

_TABLE = """
abs         np.abs              jnp.abs
acos        np.arccos           jnp.arccos
acosh       np.arccosh          jnp.arccosh
asin        np.arcsin           jnp.arcsin
asinh       np.arcsinh          jnp.arcsinh
atan        np.arctan           jnp.arctan
atan2       np.arctan2          jnp.arctan2
atanh       np.arctanh          jnp.arctanh
bessel_i0e  special.i0e         jax.scipy.special.i0e
bessel_i1e  special.i1e         jax.scipy.special.i1e
cbrt        np.cbrt             jnp.cbrt
ceil        np.ceil             jnp.ceil
clz         _leading_zeros      lax.clz
conj        np.conj             jnp.conj
cos         np.cos              jnp.cos
cosh        np.cosh             jnp.cosh
digamma     special.digamma     jax.scipy.special.digamma
erf         special.erf         jax.scipy.special.erf
erf_inv     special.erfinv      jax.scipy.special.erfinv
erfc        special.erfc        jax.scipy.special.erfc
exp         np.exp              jnp.exp
exp2        np.exp2             jnp.exp2
expm1       np.expm1            jnp.expm1
floor       np.floor            jnp.floor
igamma      special.gammainc    jax.scipy.special.gammainc
igammac     special.gammaincc   jax.scipy.special.gammaincc
imag        np.imag             jnp.imag
is_finite   np.isfinite         jnp.isfinite
lgamma      special.gammaln     jax.scipy.special.gammaln
log         np.log              jnp.log
log1p       np.log1p            jnp.log1p
log2        np.log2             jnp.log2
logistic    special.expit       jax.nn.sigmoid
nextafter   np.nextafter        jnp.nextafter
polygamma   special.polygamma   lax.polygamma
population_count  np.bitwise_count  lax.population_count
real        np.real             jnp.real
regularized_incomplete_beta  special.betainc  jax.scipy.special.betainc
shift_left              _shift_left              lax.shift_left
shift_right_arithmetic  _shift_right             lax.shift_right_arithmetic
shift_right_logical     _shift_right_logical     lax.shift_right_logical
sign        np.sign             jnp.sign
sin         np.sin              jnp.sin
sinh        np.sinh             jnp.sinh
sqrt        np.sqrt             jnp.sqrt
tan         np.tan              jnp.tan
tanh        np.tanh             jnp.tanh
zeta        special.zeta        jax.scipy.special.zeta
"""

FUNCTIONS: dict[str, tuple[str, str]] = {
    name: (numpy_name, jax_name)
    for name, numpy_name, jax_name in (line.split() for line in _TABLE.strip().splitlines())
}
"""The names in NumPy or SciPy, and in JAX, by primitive."""
