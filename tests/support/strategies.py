"""Random terms and blocks with every kind of index; entries are whole, so that sums are exact."""

import math

import numpy as np
from hypothesis import strategies as st

from blockjac.blocks import Block, Factor, Index, Label, Lookup, Term
from blockjac.terms.known_indices import index_plus, known_lookup

MOST_LABEL_VALUES = 600
"""A term sums over at most so many label values, for the sake of the loops in the oracle."""

SIZES = (1, 2, 3, 4, 6)


def rarely():
    """True once in about twenty draws."""
    return st.sampled_from((False,) * 19 + (True,))


@st.composite
def shapes(draw, most_axes=2, zero=True):
    sizes = st.sampled_from((*SIZES, 0) if zero and draw(rarely()) else SIZES)
    return tuple(draw(st.lists(sizes, max_size=most_axes)))


@st.composite
def terms(draw, shape, out_rank):
    """A term for axes of the sizes `shape`; every label of its factors stands in an index."""
    maker = _Maker(draw)
    indices = [maker.index(size) for size in shape]
    labels = list(dict.fromkeys(label for index in indices for label in index.labels))
    factors = tuple(
        maker.factor(draw(st.permutations(labels))[: draw(st.integers(0, len(labels)))])
        for _ in range(draw(st.integers(0, 3)))
    )
    coefficient = 0 if draw(rarely()) else draw(st.sampled_from((1, 1, 1, -1, 2, -3, 0.5)))
    return Term(factors, tuple(indices[:out_rank]), tuple(indices[out_rank:]), coefficient)


@st.composite
def blocks(draw, out_shape, wrt_shape, most_terms=3):
    """A block, and the terms it was made of."""
    count = 0 if draw(rarely()) else draw(st.integers(1, most_terms))
    made = [draw(terms((*out_shape, *wrt_shape), len(out_shape))) for _ in range(count)]
    if count > 1 and draw(st.booleans()):
        made[-1] = draw(variations(made[0]))
    return Block(out_shape, wrt_shape, np.float64, made), made


@st.composite
def variations(draw, term):
    """A term over the same indices with some factors shared, as sums of paths have them."""
    other = term.relabelled() if draw(st.booleans()) else term
    kept = [factor for factor in other.factors if draw(st.booleans())]
    maker = _Maker(draw)
    labels = list(dict.fromkeys(label for index in other.indices for label in index.labels))
    if draw(st.booleans()):
        kept.append(maker.factor(labels[: draw(st.integers(0, len(labels)))]))
    return Term(tuple(kept), other.out, other.wrt, draw(st.sampled_from((1, -1, 2))))


class _Maker:
    """Draws indices and factors over a pool of labels that grows."""

    def __init__(self, draw):
        self.draw = draw
        self.pool = []
        self.lookups = []
        self.random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))

    def label(self, size=None):
        """A label of the pool, of the given size if one is given, or a new one."""
        fitting = [label for label in self.pool if size in (None, label.size)]
        if fitting and self.draw(st.booleans()):
            return self.draw(st.sampled_from(fitting))
        if size is None:
            size = (
                0 if self.draw(rarely()) and self.draw(rarely()) else self.draw(st.integers(1, 4))
            )
        new = Label(size)
        if math.prod(label.size for label in [*self.pool, new]) > MOST_LABEL_VALUES:
            return self.draw(st.sampled_from(fitting)) if fitting else Label(1)
        self.pool.append(new)
        return new

    def index(self, size):
        kind = self.draw(
            st.sampled_from(
                ("plain",) * 4
                + ("constant", "affine", "affine", "radix", "trimmed", "window", "lookup", "lookup")
            )
        )
        return getattr(self, "_" + kind)(size)

    def _plain(self, size):
        return Index.of(self.label(size))

    def _constant(self, size):
        outside = self.draw(rarely()) or not size
        return Index(
            self.draw(st.sampled_from((-1, size)) if outside else st.integers(0, size - 1))
        )

    def _affine(self, size):
        label, stride = self.label(), self.draw(st.sampled_from((1, -1, 2, -2, 3)))
        # Somewhere the index lies on the axis, most of the time.
        onto = self.draw(st.integers(0, size)) - stride * self.draw(st.integers(0, label.size))
        return Index.of(label, stride, onto)

    def _radix(self, size):
        """Digits whose product is the size of the axis, in any order of writing."""
        splits = [(a, size // a) for a in range(1, size + 1) if size % a == 0] or [(1, 1)]
        high, low = self.draw(st.sampled_from(splits))
        return self._of_pairs([(self.label(high), low), (self.label(low), 1)], 0)

    def _trimmed(self, size):
        """A mixed radix that runs over the axis's end, or does not reach it."""
        low = self.draw(st.integers(2, 3))
        offset = self.draw(st.integers(-1, 1))
        return self._of_pairs([(self.label(), low), (self.label(low), 1)], offset)

    def _window(self, size):
        step, dilation = self.draw(st.integers(1, 2)), self.draw(st.integers(1, 2))
        sign = self.draw(st.sampled_from((1, 1, -1)))
        pairs = [(self.label(), sign * step), (self.label(), dilation)]
        return self._of_pairs(pairs, self.draw(st.integers(-2, 2)))

    def _lookup(self, size):
        lookup = self._found_lookup(size)
        strides = ((self.label(), self.draw(st.sampled_from((1, -1, 2)))),)
        affine = strides if self.draw(st.integers(0, 3)) == 0 and strides[0][0].size != 1 else ()
        offset = self.draw(st.sampled_from((0, 0, 1, -1)))
        if lookup.constant:
            return index_plus(Index(offset, affine), lookup)
        return Index(offset, affine, lookup)

    def _found_lookup(self, size):
        if self.lookups and self.draw(st.booleans()):
            return self.draw(st.sampled_from(self.lookups))
        labels = tuple(dict.fromkeys(self.label() for _ in range(self.draw(st.integers(0, 2)))))
        shape = tuple(label.size for label in labels)
        inside = self.draw(st.booleans()) and size > 0
        array = self.random.integers(0 if inside else -2, size if inside else size + 2, shape)
        bounds = (int(array.min(initial=0)), int(array.max(initial=0)))
        array = np.asarray(array, self.draw(st.sampled_from((np.int32, np.int64))))
        if self.draw(st.booleans()):
            lookup = known_lookup(array, labels)
        else:
            lookup = Lookup(array, labels, bounds if self.draw(st.booleans()) else None)
        self.lookups.append(lookup)
        return lookup

    def _of_pairs(self, pairs, offset):
        strides = {}
        for label, stride in pairs:
            if label.size != 1:
                strides[label] = strides.get(label, 0) + stride
        return Index(offset, tuple((label, stride) for label, stride in strides.items() if stride))

    def factor(self, labels):
        shape = tuple(label.size for label in labels)
        values = self.random.choice((-3.0, -2.0, -1.0, 1.0, 2.0, 3.0, 4.0, 0.0), shape)
        return Factor(values.astype(bool) if self.draw(rarely()) else values, tuple(labels))
