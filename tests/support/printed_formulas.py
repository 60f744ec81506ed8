"""Reads formulas as they are printed, and evaluates them by brute force: one axis for each letter.

It shares nothing with the library's own expressions, so that what a reader sees is what is checked.
"""

import re
from math import prod

import numpy as np
from jax.scipy import special

TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+\.?\d*(?:e[+-]?\d+)?)|(?P<name>[^\W\d][\w']*(?:_[^\W\d][\w']*)*)"
    r"|(?P<sign>⋆|∞|≤|≥|≠|[-+/\[\](),=<>^²³¬∧∨]))"
)

FUNCTIONS = {
    name: getattr(np, name)
    for name in ("exp", "log", "sin", "cos", "tan", "tanh", "sinh", "cosh", "sqrt", "abs", "log1p")
} | {
    "logistic": lambda x: 1 / (1 + np.exp(-x)),
    "sign": np.sign,
    "max": np.maximum,
    "min": np.minimum,
    "erf": lambda x: np.asarray(special.erf(x)),
    "atan2": np.arctan2,
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "asinh": np.arcsinh,
    "acosh": np.arccosh,
    "atanh": np.arctanh,
    "expm1": np.expm1,
    "cbrt": np.cbrt,
    "log2": np.log2,
    "exp2": np.exp2,
    "erfc": lambda x: np.asarray(special.erfc(x)),
    "lgamma": lambda x: np.asarray(special.gammaln(x)),
    "digamma": lambda x: np.asarray(special.digamma(x)),
    "conj": np.conj,
    "real": np.real,
    "imag": np.imag,
}

REDUCTIONS = {"Σ": np.sum, "Π": np.prod, "max": np.max, "min": np.min}

RELATIONS = {
    "=": np.equal,
    "≠": np.not_equal,
    "<": np.less,
    "≤": np.less_equal,
    ">": np.greater,
    "≥": np.greater_equal,
}


class Printed:
    """One printed formula over arrays with printed names."""

    def __init__(self, text, arrays, sizes):
        """Read a formula `name[letters] = body`.

        Args:
            text: as printed, in one line.
            arrays: by printed name.
            sizes: how many values each letter takes.
        """
        self.text, self.arrays = text, arrays
        self.letters = list(sizes)
        self.sizes = sizes
        self.left, _, body = text.partition(" = ")
        self.tokens, position = [], 0
        while position < len(body):
            match = TOKEN.match(body, position)
            assert match, f"cannot read {body[position:]!r} of {text!r}"
            self.tokens.append(match.group().strip())
            position = match.end()
        self.at = 0

    def evaluate(self, shape):
        """The array that the formula gives the entries of."""
        value = self.sum()
        assert self.at == len(self.tokens), f"left over: {self.tokens[self.at :]} in {self.text!r}"
        places = re.search(r"\[([^\[\]]*)\]$", self.left)
        axes = [] if places is None else [p for p in places[1].split(",") if p in self.sizes]
        sizes = [self.sizes[letter] if letter in axes else 1 for letter in self.letters]
        array = np.broadcast_to(value, sizes)
        kept = [self.letters.index(letter) for letter in axes]
        array = np.transpose(array, [*kept, *(n for n in range(array.ndim) if n not in kept)])
        assert array.size == prod(shape), (self.text, array.shape, shape)
        return array.reshape(shape)

    def peek(self):
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def take(self, *wanted):
        token = self.peek()
        assert not wanted or token in wanted, f"wanted {wanted}, got {token!r} in {self.text!r}"
        self.at += 1
        return token

    def number(self, value):
        return np.reshape(np.asarray(value), [1] * len(self.letters))

    def sum(self):
        negative = self.peek() == "-" and self.take()
        value = -self.product() if negative else self.product()
        while self.peek() in ("+", "-") and self.peek():
            sign = self.take()
            value = value + self.product() if sign == "+" else value - self.product()
        return value

    def product(self):
        value = self.power()
        while (
            self.peek() and self.peek() not in "+-),]=<>≤≥≠∧∨" and self.peek() not in ("if", "else")
        ):
            if self.peek() == "/":
                self.take()
                value = value / self.power()
            else:
                value = value * self.power()
        return value

    def power(self):
        base = self.atom()
        if self.peek() in ("²", "³") and self.peek():
            return base ** {"²": 2, "³": 3}[self.take()]
        if self.peek() == "^":
            self.take()
            return np.power(base, self.atom())
        return base

    def atom(self):
        token = self.take()
        if token == "(":
            return self.parenthesis()
        if token == "[":
            return self.bracket() * 1.0
        if token == "¬":
            return ~(self.atom() != 0)
        if token == "-":
            return -self.atom()
        if token in ("∞", "nan"):
            return self.number(np.inf if token == "∞" else np.nan)
        if token[0].isdigit():
            return self.number(float(token))
        head, _, below = token.partition("_")
        if head in REDUCTIONS and below:
            return self.reduction(head, below)
        if token == "δ" and self.peek() == "[":
            left, right = self.places()
            return (left == right) * 1.0
        if token in FUNCTIONS and self.peek() == "(":
            self.take("(")
            arguments = [self.sum()]
            while self.take(",", ")") == ",":
                arguments.append(self.sum())
            return FUNCTIONS[token](*arguments)
        return self.entry(token)

    def parenthesis(self):
        if self.peek().startswith("D_"):  # what has a name and no formula
            start, depth = self.at, 1
            while depth:  # the result of a step with several is in parentheses of its own
                depth += {"(": 1, ")": -1}.get(self.take(), 0)
            written = "".join(self.tokens[start : self.at - 1])
            return self.entry(next(n for n in self.arrays if n.replace(" ", "") == f"({written})"))
        value = self.sum()
        if self.peek() == "if":
            self.take()
            mask = self.sum()
            self.take("else")
            other = self.sum()
            self.take(")")
            return np.where(mask != 0, value, other)
        while self.peek() in ("∧", "∨") and self.peek():
            sign = self.take()
            other = self.sum()
            value = (value != 0) & (other != 0) if sign == "∧" else (value != 0) | (other != 0)
        self.take(")")
        return value

    def bracket(self):
        left = self.side()
        value = True
        while True:
            sign = self.take("]", *RELATIONS)
            if sign == "]":
                return value
            right = self.side()
            value = value & RELATIONS[sign](left, right)
            left = right

    def side(self):
        start = self.at
        try:
            return self.sum()
        except KeyError:  # a letter, which is no array: a place
            self.at = start
            return self.place()

    def reduction(self, kind, below):
        letters = [below]
        while self.peek() == ",":
            self.take()
            letters.append(self.take())
        body = self.product()
        axes = tuple(self.letters.index(letter) for letter in letters)
        sizes = [
            self.sizes[letter] if letter in letters else size
            for letter, size in zip(self.letters, body.shape, strict=True)
        ]
        return REDUCTIONS[kind](np.broadcast_to(body, sizes), axis=axes, keepdims=True)

    def entry(self, name):
        if name in self.sizes:  # a letter as a number, as angles have it
            own = [1] * len(self.letters)
            own[self.letters.index(name)] = self.sizes[name]
            return np.arange(self.sizes[name]).reshape(own)
        while name not in self.arrays and f"{name}," in " ".join(self.arrays):
            self.take(",")  # a name with two others below, `q_f,x`
            name += f",{self.take()}"
        if name == "π" and name not in self.arrays:
            return self.number(np.pi)
        array = np.asarray(self.arrays[name])
        if self.peek() != "[" or array.ndim == 0:
            return self.number(array)
        places = self.places()
        assert len(places) == array.ndim, (name, self.text)
        inside = True
        for place, size in zip(places, array.shape, strict=True):
            inside = inside & (place >= 0) & (place < size)
        clipped = [
            np.clip(place, 0, size - 1) for place, size in zip(places, array.shape, strict=True)
        ]
        return np.where(inside, array[tuple(clipped)], 0)

    def places(self):
        self.take("[")
        places = [self.place()]
        while self.take(",", "]") == ",":
            places.append(self.place())
        return places

    def place(self):
        value = self.number(0)
        sign = 1
        while True:
            if self.peek() == "-":
                self.take()
                sign = -1
            token = self.take()
            match = re.fullmatch(r"(\d*)(.*)", token)
            times, letter = int(match[1] or 1), match[2]
            if not letter and self.peek() in self.sizes:
                letter = self.take()
            if not letter:
                part = self.number(times)
            elif letter in self.sizes:
                own = [1] * len(self.letters)
                own[self.letters.index(letter)] = self.sizes[letter]
                part = times * np.arange(self.sizes[letter]).reshape(own)
            else:
                assert letter in self.arrays, letter
                part = times * self.entry(letter).astype(int)
            value = value + sign * part
            if self.peek() not in ("+", "-"):
                return value
            sign = 1 if self.take() == "+" else -1
