"""The formula of a block as text: `δ[n,n'] X[n,k] B[n,m,h]`."""

from __future__ import annotations

from blockjac.blocks.block import Block, Term
from blockjac.blocks.index import Index, Label

LETTERS = "ijklmnpqrstuvwabcdefgh"
FACTOR_NAMES = "ABCDEFGHKLMNPQRSTUVW"


def describe(block: Block) -> str:
    """The sum of the block's terms: deltas first, then other index relations in brackets, then factors."""
    if not block.terms:
        return "0"
    names: dict[int, str] = {}
    parts = [_term(term, names) for term in block.terms]
    text = parts[0][0] + parts[0][1] if parts[0][0] == "-" else parts[0][1]
    for sign, body in parts[1:]:
        text += f" {sign or '+'} {body}"
    return text


def _term(term: Term, names: dict[int, str]) -> tuple[str, str]:
    """The sign and the body of a term."""
    letters = {label: _letter(place) for place, label in enumerate(term.labels)}
    rank = len(term.out)
    primes: dict[Label, int] = {}
    deltas, relations = [], []
    for axis, index in enumerate(term.indices):
        side = "out" if axis < rank else "wrt"
        place = axis if axis < rank else axis - rank
        single = index.single
        if single is not None and index.offset == 0 and single[1] == 1:
            label = single[0]
            seen = primes.get(label, 0)
            primes[label] = seen + 1
            if seen:
                deltas.append(f"δ[{letters[label]},{letters[label]}{chr(39) * seen}]")
        elif not (index.constant and index.offset == 0):
            relations.append(f"[{side}{place}={_index(index, letters)}]")
    factors = []
    for factor in term.factors:
        name = names.get(id(factor.array))
        if name is None:
            name = factor.name or _free_name(names)
            names[id(factor.array)] = name
        labels = ",".join(letters[label] for label in factor.labels)
        factors.append(f"{name}[{labels}]" if labels else name)
    sign, number = _coefficient(term.coefficient)
    body = " ".join([*([number] if number else []), *deltas, *relations, *factors])
    return sign, body or "1"


def _coefficient(value: object) -> tuple[str, str]:
    if value == 1:
        return "", ""
    if value == -1:
        return "-", ""
    if isinstance(value, int | float) and value < 0:
        return "-", f"{-value:.6g}"
    return "", f"{value:.6g}" if isinstance(value, int | float) else str(value)


def _index(index: Index, letters: dict[Label, str]) -> str:
    text = ""
    for label, stride in index.strides:
        sign = "-" if stride < 0 else "+" if text else ""
        text += f"{sign}{'' if abs(stride) == 1 else abs(stride)}{letters[label]}"
    if index.lookup is not None:
        text += f"{'+' if text else ''}lookup[{','.join(letters[label] for label in index.lookup.labels)}]"
    if index.offset or not text:
        text += f"{index.offset:+d}" if text else str(index.offset)
    return text


def _letter(place: int) -> str:
    if place < len(LETTERS):
        return LETTERS[place]
    return f"{LETTERS[place % len(LETTERS)]}{place // len(LETTERS)}"


def _free_name(names: dict[int, str]) -> str:
    taken = set(names.values())
    for round_ in range(len(names) + 1):
        for letter in FACTOR_NAMES:
            name = letter if round_ == 0 else f"{letter}{round_}"
            if name not in taken:
                return name
    return "A"
