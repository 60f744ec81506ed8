"""Names of functions and variables, as formulas write them: `W1` is W with the subscript 1."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count

GREEK = {
    "alpha": "α",
    "beta": "β",
    "gamma": "γ",
    "delta": "δ",
    "epsilon": "ε",
    "zeta": "ζ",
    "eta": "η",
    "theta": "θ",
    "iota": "ι",
    "kappa": "κ",
    "lambda": "λ",
    "mu": "μ",
    "nu": "ν",
    "xi": "ξ",
    "pi": "π",
    "rho": "ρ",
    "sigma": "σ",
    "tau": "τ",
    "upsilon": "υ",
    "phi": "φ",
    "chi": "χ",
    "psi": "ψ",
    "omega": "ω",
    "Gamma": "Γ",
    "Delta": "Δ",
    "Theta": "Θ",
    "Lambda": "Λ",
    "Xi": "Ξ",
    "Pi": "Π",
    "Sigma": "Σ",
    "Phi": "Φ",
    "Psi": "Ψ",
    "Omega": "Ω",
}
"""Greek letters by their English names."""

ENGLISH = {letter: name for name, letter in GREEK.items()}


@dataclass(frozen=True)
class Name:
    """A name in a formula: a base and its subscripts.

    Attributes:
        base: a letter, a word, or the English name of a Greek letter.
        below: the subscripts, each a word, a number or a name.

    Examples:
        >>> str(Name.of("W1")), str(Name.of("phi_2")), str(Name.of("hidden_state"))
        ('W1', 'phi2', 'hidden_state')
        >>> Name.of("layers.0.W").below
        ('layers', '0')
    """

    base: str
    below: tuple[str | Name, ...] = ()

    @staticmethod
    def of(text: str) -> Name:
        """The name that an identifier, or the path of a leaf such as `layers.0.W`, stands for.

        What is neither, such as `50% of x.y`, is a name as it is.
        """
        if not re.fullmatch(r"\w+(\.\w+)*", text):
            return Name(text or "_")
        *path, own = text.split(".")
        if own.isdigit() and path:
            own, path = path[-1], [*path[:-1], own]
        match = re.fullmatch(r"(.*?[^\W\d_])_?(\d+)", own)
        if match:
            return Name(match[1], (*path, match[2]))
        first, _, last = own.partition("_")
        if is_letter(first) and last and "_" not in last:
            return Name(first, (*path, last))
        return Name(own or "_", tuple(path))

    def numbered(self, number: int) -> Name:
        """The same name with a number below."""
        return Name(self.base, (*self.below, str(number)))

    def __str__(self) -> str:
        parts = [str(part) for part in self.below]
        if not parts:
            return self.base
        joined = ",".join(parts)
        tight = len(parts) == 1 and parts[0].isdigit() and not self.base[-1].isdigit()
        return self.base + ("" if tight else "_") + joined


@dataclass(frozen=True)
class Derivative:
    """The Jacobian of a function by a variable, as a name: `D_x f`.

    Attributes:
        of: the function.
        by: the variable.
        result: which of several results of the function; None where it has one.
    """

    of: Name
    by: Name
    result: Name | None = None

    def __str__(self) -> str:
        result = "" if self.result is None else f"({self.result})"
        return f"D_{self.by} {self.of}{result}"


def is_letter(base: str) -> bool:
    """Whether a base is written as one letter."""
    return len(base) == 1 or base in GREEK or base == "ell"


def unique(names: Iterable[Name], taken: Iterable[Name] = ()) -> list[Name]:
    """The names, those that occur several times numbered from 1 in their order.

    Args:
        names: in the order in which they are numbered.
        taken: names that stay as they are, each of which counts as the first of its kind.

    Examples:
        >>> Z, X = Name("Z"), Name("X")
        >>> [str(name) for name in unique([Z, X, Z], taken=[X])]
        ['Z1', 'X2', 'Z2']
    """
    names = list(names)
    occurrences = Counter(names)
    used = set(taken)
    firsts = set(used)
    counters: dict[Name, Iterator[int]] = {}
    result: list[Name] = []
    for name in names:
        if name not in firsts and occurrences[name] == 1 and name not in used:
            used.add(name)
            result.append(name)
            continue
        numbers = counters.setdefault(name, count(2 if name in firsts else 1))
        numbered = next(own for own in map(name.numbered, numbers) if own not in used)
        used.add(numbered)
        result.append(numbered)
    return result
