"""What is known about each primitive of JAX besides its derivative: one row per primitive.

A rule in `rules/` says what a primitive's elemental Jacobian is. Whatever else the library needs to
know about a primitive (is it linear, is its result stored, how many operations does it take, does
its rule hold for complex numbers) is a column here. A new primitive needs one row, and a row that
lacks a column fails on import.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from typing import Literal, get_args, get_type_hints

from blockjac.errors import RuleError

Linear = Literal["all", "each", "first", "last", "no"]
"""In which of its float and complex operands a primitive is linear.

- `all`: in all of them together
- `each`: in each of two
- `first`: in the first
- `last`: in the last, a right-hand side
- `no`: in none, as far as is known
"""

Storage = Literal["alias", "moves", "cheap", "dear", "reduces", "in-place", "stored"]
"""What the compiler makes of the result.

- `alias`: the same numbers in the same order
- `moves`: fused into whatever reads it
- `cheap`: computed entry by entry, and again for each reader
- `dear`: computed entry by entry, and stored if several read it
- `reduces`: stored, with its operand fused
- `in-place`: written into its first operand if nothing else reads that
- `stored`: stored, as its operands are
"""

Operations = Literal["none", "product", "sum", "contraction", "reduction", "scatter", "other"]
"""What is counted.

- `none`: nothing
- `product`: a multiplication per entry of the result
- `sum`: an addition per entry of the result
- `contraction`: those of a matrix product
- `reduction`: additions of what is summed
- `scatter`: additions of what is added into an array
- `other`: one other operation per entry of the result
"""

Complex = Literal["holomorphic", "parts", "real", "own", "none"]
"""What holds for complex numbers.

- `holomorphic`: its rule holds as it is
- `parts`: it has a rule for real and imaginary parts
- `real`: it does not take them, or is left to JAX
- `own`: its operator handles them
- `none`: it has no derivative
"""


@dataclass(frozen=True)
class Facts:
    """A row of the table; the defaults are for primitives that nothing is known about."""

    linear: Linear = "no"
    storage: Storage = "stored"
    operations: Operations = "other"
    complex: Complex = "real"


CALLS = frozenset({"jit", "pjit", "closed_call", "core_call"})
"""Primitives that do what their jaxpr does, and are inlined."""

OWN_RULES = frozenset({"custom_jvp_call", "custom_vjp_call"})
"""Functions with a derivative rule of their own; they compute what their jaxpr computes."""

_TABLE = """
primitive                   linear storage   operations   complex
abs                         no     cheap     other        parts
acos                        no     dear      other        holomorphic
acosh                       no     dear      other        holomorphic
add                         all    cheap     sum          holomorphic
add_any                     all    cheap     sum          holomorphic
all_gather                  all    stored    other        own
all_to_all                  all    stored    other        own
and                         no     cheap     other        none
approx_top_k                no     stored    other        real
argmax                      no     reduces   other        none
argmin                      no     reduces   other        none
asin                        no     dear      other        holomorphic
asinh                       no     dear      other        holomorphic
atan                        no     dear      other        holomorphic
atan2                       no     dear      other        holomorphic
atanh                       no     dear      other        holomorphic
bcoo_dot_general            each   stored    other        own
bessel_i0e                  no     dear      other        real
bessel_i1e                  no     dear      other        real
bitcast_convert_type        no     alias     none         none
broadcast_in_dim            all    moves     none         holomorphic
cbrt                        no     dear      other        real
ceil                        no     cheap     other        none
checkpoint                  no     stored    other        own
cholesky                    no     stored    other        own
clamp                       no     cheap     other        real
closed_call                 no     stored    other        own
clz                         no     cheap     other        none
complex                     all    cheap     none         own
concatenate                 all    moves     none         holomorphic
cond                        no     stored    other        own
conj                        all    cheap     none         own
conv_general_dilated        each   stored    other        real
convert_element_type        all    moves     none         parts
copy                        all    alias     none         holomorphic
copy_p                      no     alias     none         own
core_call                   no     stored    other        own
cos                         no     dear      other        holomorphic
cosh                        no     dear      other        holomorphic
cumlogsumexp                no     stored    other        holomorphic
cummax                      no     stored    other        real
cummin                      no     stored    other        real
cumprod                     no     stored    other        holomorphic
cumsum                      all    stored    sum          holomorphic
custom_jvp_call             no     stored    other        own
custom_linear_solve         no     stored    other        own
custom_vjp_call             no     stored    other        own
device_put                  all    alias     none         holomorphic
digamma                     no     dear      other        real
div                         first  dear      product      holomorphic
dot_general                 each   stored    contraction  holomorphic
dynamic_slice               all    stored    none         holomorphic
dynamic_update_slice        all    in-place  none         holomorphic
eig                         no     stored    other        own
eigh                        no     stored    other        own
eq                          no     cheap     other        none
eq_to                       no     cheap     other        none
erf                         no     dear      other        real
erf_inv                     no     dear      other        real
erfc                        no     dear      other        real
exp                         no     dear      other        holomorphic
exp2                        no     dear      other        holomorphic
expand_dims                 all    alias     none         own
expm1                       no     dear      other        holomorphic
fft                         all    stored    other        own
floor                       no     cheap     other        none
gather                      all    moves     none         holomorphic
ge                          no     cheap     other        none
gt                          no     cheap     other        none
igamma                      no     dear      other        real
igammac                     no     dear      other        real
imag                        all    cheap     none         own
integer_pow                 no     cheap     other        holomorphic
iota                        no     moves     none         none
is_finite                   no     cheap     other        none
jit                         no     stored    other        own
layout_constraint           all    alias     none         holomorphic
le                          no     cheap     other        none
le_to                       no     cheap     other        none
lgamma                      no     dear      other        real
log                         no     dear      other        holomorphic
log1p                       no     dear      other        holomorphic
log2                        no     dear      other        holomorphic
logistic                    no     dear      other        holomorphic
lt                          no     cheap     other        none
lt_to                       no     cheap     other        none
lu                          no     stored    other        own
max                         no     cheap     other        holomorphic
min                         no     cheap     other        holomorphic
mul                         each   cheap     product      holomorphic
mulhi                       no     cheap     other        none
name                        all    alias     none         holomorphic
ne                          no     cheap     other        none
neg                         all    cheap     none         holomorphic
nextafter                   no     cheap     other        real
not                         no     cheap     other        none
one_minus_square            no     cheap     other        holomorphic
optimization_barrier        all    reduces   none         holomorphic
or                          no     cheap     other        none
pad                         all    moves     none         holomorphic
pjit                        no     stored    other        own
polygamma                   no     dear      other        real
polynomial                  no     cheap     other        holomorphic
population_count            no     cheap     other        none
pow                         no     dear      other        holomorphic
ppermute                    all    stored    other        own
psum                        all    stored    other        own
psum_invariant              all    stored    other        own
pvary                       all    alias     none         own
qr                          no     stored    other        own
ragged_dot_general          no     stored    other        own
random_bits                 no     stored    other        none
random_fold_in              no     stored    other        none
random_gamma                no     stored    other        real
random_seed                 no     stored    other        none
random_split                no     stored    other        none
random_unwrap               no     stored    other        none
random_wrap                 no     stored    other        none
real                        all    cheap     none         own
reduce_and                  no     reduces   other        none
reduce_max                  no     reduces   other        holomorphic
reduce_min                  no     reduces   other        holomorphic
reduce_or                   no     reduces   other        none
reduce_precision            all    cheap     none         real
reduce_prod                 no     reduces   other        holomorphic
reduce_scatter              all    stored    other        own
reduce_sum                  all    reduces   reduction    holomorphic
reduce_window_max           no     stored    other        real
reduce_window_min           no     stored    other        real
reduce_window_sum           all    stored    other        holomorphic
reduce_xor                  no     reduces   other        none
regularized_incomplete_beta no     dear      other        real
rem                         no     dear      other        real
remat                       no     stored    other        own
remat2                      no     stored    other        own
reshape                     all    alias     none         holomorphic
reshard                     all    stored    none         holomorphic
rev                         all    moves     none         holomorphic
round                       no     cheap     other        none
rsqrt                       no     dear      other        holomorphic
scan                        no     stored    other        own
scatter                     all    in-place  none         holomorphic
scatter-add                 all    in-place  scatter      holomorphic
scatter-max                 no     in-place  other        real
scatter-min                 no     in-place  other        real
scatter-mul                 first  in-place  other        holomorphic
scatter-sub                 all    in-place  scatter      holomorphic
select_and_gather_add       no     stored    other        real
select_and_scatter_add      no     stored    other        real
select_n                    all    moves     none         holomorphic
sharding_constraint         all    alias     none         holomorphic
shift_left                  no     cheap     other        none
shift_right_arithmetic      no     cheap     other        none
shift_right_logical         no     cheap     other        none
sign                        no     cheap     other        none
sin                         no     dear      other        holomorphic
sinh                        no     dear      other        holomorphic
slice                       all    moves     none         holomorphic
sort                        no     stored    other        holomorphic
split                       all    moves     none         holomorphic
sqrt                        no     dear      other        holomorphic
square                      no     cheap     other        holomorphic
squeeze                     all    alias     none         holomorphic
stack                       all    moves     none         holomorphic
stop_gradient               no     alias     none         none
sub                         all    cheap     sum          holomorphic
svd                         no     stored    other        own
tan                         no     dear      other        holomorphic
tanh                        no     dear      other        holomorphic
tile                        all    moves     none         holomorphic
top_k                       no     stored    other        real
transpose                   all    moves     none         holomorphic
triangular_solve            last   stored    other        own
tridiagonal_solve           last   stored    other        own
unstack                     all    moves     none         holomorphic
while                       no     stored    other        own
xor                         no     cheap     other        none
zeta                        no     dear      other        real
"""


def _read(table: str) -> Iterator[tuple[str, Facts]]:
    """The rows of a table.

    Raises:
        RuleError: names the primitive whose row lacks a fact or has an unknown one.
    """
    allowed = {name: get_args(hint) for name, hint in get_type_hints(Facts).items()}
    _, *lines = table.strip().splitlines()
    for line in lines:
        name, *facts = line.split()
        if len(facts) != len(allowed):
            raise RuleError(
                f"the row of primitive {name!r} must have {len(allowed)} facts "
                f"({', '.join(allowed)}), but has {len(facts)}"
            )
        for (column, values), fact in zip(allowed.items(), facts, strict=True):
            if fact not in values:
                raise RuleError(
                    f"the row of primitive {name!r} has {fact!r} as {column}, "
                    f"which must be one of {', '.join(values)}"
                )
        yield name, Facts(*facts)  # pyright: ignore[reportArgumentType]


def _once(rows: Iterable[tuple[str, Facts]]) -> dict[str, Facts]:
    """The rows by primitive.

    Raises:
        RuleError: names the primitive that has two rows.
    """
    by_name: dict[str, Facts] = {}
    for name, facts in rows:
        if name in by_name:
            raise RuleError(f"primitive {name!r} has two rows; keep one")
        by_name[name] = facts
    return by_name


PRIMITIVES = _once(_read(_TABLE))
"""The facts of each primitive, by name."""

UNKNOWN = Facts()


def facts_of(name: str) -> Facts:
    """What is known about a primitive, with defaults for those that have no row."""
    return PRIMITIVES.get(name, UNKNOWN)


def named(column: str, *values: str) -> frozenset[str]:
    """The primitives that have one of the values in a column.

    Examples:
        >>> sorted(named("linear", "last"))
        ['triangular_solve', 'tridiagonal_solve']
    """
    assert column in {field.name for field in fields(Facts)}
    return frozenset(name for name, facts in PRIMITIVES.items() if getattr(facts, column) in values)


def check_complete(names: Iterable[str]) -> None:
    """Check that all primitives have a row.

    Raises:
        RuleError: names those that have none.
    """
    missing = sorted(set(names) - set(PRIMITIVES))
    if missing:
        raise RuleError(
            f"no facts are known of {', '.join(map(repr, missing))}; "
            "give each a row in graph/primitives.py, or correct its name"
        )
