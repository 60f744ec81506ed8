"""The formula of a block as text: `δ[n,n'] X[n,k] B[n,m,h]`."""

from __future__ import annotations

from collections.abc import Sequence

from blockjac.terms.index import Index, Label
from blockjac.terms.term import Term

LETTERS = "ijklmnpqrstuvwabcdefgh"
FACTOR_NAMES = "ABCDEFGHKLMNPQRSTUVW"


def describe(terms: Sequence[Term], shape: Sequence[int]) -> str:
    """Write the terms as a sum: deltas, other index relations in brackets, then factors."""
    names = _factor_names(terms)
    text = ""
    for term in terms:
        sign, body = _term(term, shape, names)
        if text:
            text += f" {sign or '+'} {body}"
        else:
            text = sign + body
    return text or "0"


def _term(term: Term, shape: Sequence[int], names: dict[int, str]) -> tuple[str, str]:
    """The sign and the body of a term."""
    letters = {label: _nth(LETTERS, number) for number, label in enumerate(term.labels)}
    primes: dict[Label, int] = {}
    deltas: list[str] = []
    relations: list[str] = []
    for axis, (index, size) in enumerate(zip(term.indices, shape, strict=True)):
        if index.single is None or index.offset != 0 or index.single[1] != 1:
            if not index.is_plain(size):
                side = f"out{axis}" if axis < len(term.out) else f"wrt{axis - len(term.out)}"
                relations.append(f"[{side}={_index(index, letters)}]")
            continue
        label = index.single[0]
        letter, seen = letters[label], primes.get(label, 0)
        primes[label] = seen + 1
        if seen:
            deltas.append(f"δ[{letter},{letter}{chr(39) * seen}]")
        bound = f"[{letter}<{label.size}]"
        if label.size < size and bound not in relations:
            relations.append(bound)
    factors: list[str] = []
    for factor in term.factors:
        labels = ",".join(letters[label] for label in factor.labels)
        factors.append(names[id(factor.array)] + (f"[{labels}]" if labels else ""))
    sign, number = _coefficient(term.coefficient)
    return sign, " ".join(filter(None, [number, *deltas, *relations, *factors])) or "1"


def _factor_names(terms: Sequence[Term]) -> dict[int, str]:
    """A name for each array: that of its factor, numbered if two arrays share it, or a letter."""
    factors = [factor for term in terms for factor in term.factors]
    names: dict[int, str] = {}
    taken: set[str] = set()

    def assign(array_id: int, candidates: list[str]) -> None:
        name = next(name for name in candidates if name not in taken)
        names[array_id] = name
        taken.add(name)

    for factor in factors:
        if factor.name and id(factor.array) not in names:
            numbered = [f"{factor.name}{number}" for number in range(2, len(factors) + 1)]
            assign(id(factor.array), [factor.name, *numbered])
    letters = [_nth(FACTOR_NAMES, number) for number in range(2 * len(factors))]
    for factor in factors:
        if id(factor.array) not in names:
            assign(id(factor.array), letters)
    return names


def _coefficient(value: object) -> tuple[str, str]:
    """The sign and the digits of a coefficient; both are empty for 1."""
    if not isinstance(value, int | float):
        return "", str(value)
    digits = f"{abs(value):.6g}"
    return "-" if value < 0 else "", "" if digits == "1" else digits


def _index(index: Index, letters: dict[Label, str]) -> str:
    """An index expression, such as `4i+j` or `i+lookup[j]-1`."""
    text = ""
    for label, stride in index.strides:
        sign = "-" if stride < 0 else "+" if text else ""
        text += f"{sign}{'' if abs(stride) == 1 else abs(stride)}{letters[label]}"
    if index.lookup is not None:
        labels = ",".join(letters[label] for label in index.lookup.labels)
        text += f"{'+' if text else ''}lookup[{labels}]"
    if not text:
        return str(index.offset)
    return text + (f"{index.offset:+d}" if index.offset else "")


def _nth(alphabet: str, number: int) -> str:
    """The letters of an alphabet in turn, then the same with digits."""
    round_, letter = divmod(number, len(alphabet))
    return alphabet[letter] + (str(round_) if round_ else "")
