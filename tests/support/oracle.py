"""The definition of a block, evaluated by loops in numpy: slow, and right at a glance."""

import itertools

import numpy as np


def entries(term, shape):
    """Each place of `shape` that the term's definition reaches, with the value it adds there."""
    labels = list(
        dict.fromkeys(
            label for carrier in (*term.out, *term.wrt, *term.factors) for label in carrier.labels
        )
    )
    for values in itertools.product(*(range(label.size) for label in labels)):
        at = dict(zip(labels, values, strict=True))
        place = tuple(place_of(index, at) for index in (*term.out, *term.wrt))
        if all(0 <= x < size for x, size in zip(place, shape, strict=True)):
            value = term.coefficient
            for factor in term.factors:
                value = (
                    value * np.asarray(factor.array)[tuple(at[label] for label in factor.labels)]
                )
            yield place, value


def place_of(index, at):
    """The value of an index expression at given label values."""
    place = index.offset + sum(stride * at[label] for label, stride in index.strides)
    if index.lookup is not None:
        place += int(np.asarray(index.lookup.array)[tuple(at[x] for x in index.lookup.labels)])
    return place


def dense_of(terms, shape):
    """`J[i, j] = c * sum over labels  prod factors * prod [i_a == out_a] * prod [j_b == wrt_b]`."""
    total = np.zeros(shape)
    for term in terms:
        for place, value in entries(term, shape):
            total[place] += value
    return total


def places_of(terms, shape):
    """The set of places where the structure has an entry."""
    return {place for term in terms for place, _ in entries(term, shape)}


def star_of(left, right, out_rank):
    """`sum over k of left[i, k] right[k, j]`, dense."""
    middle = left.ndim - out_rank
    return np.tensordot(left, right, axes=middle)
