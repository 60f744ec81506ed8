"""The formula of a block: each delta once, factors by their names, other relations in brackets."""

import jax.numpy as jnp
import numpy as np

from blockjac.blocks import Block, Factor, Index, Label, Lookup, Term, add


def over(*labels):
    return tuple(map(Index.of, labels))


def formula(out_shape, wrt_shape, *terms):
    return Block(out_shape, wrt_shape, np.float64, terms).structure


def test_the_derivative_by_the_first_weights():
    n, k, m, h = Label(6), Label(5), Label(4), Label(3)
    factors = (
        Factor(jnp.ones((6, 5)), (n, k), "X"),
        Factor(jnp.ones((6, 4, 3)), (n, m, h), "B"),
    )
    text = formula((6, 4), (5, 3), Term(factors, over(n, m), over(k, h)))
    assert text == "X[i,k] B[i,j,l]"


def test_the_derivative_of_a_product_by_its_left_operand():
    n, k, h = Label(6), Label(5), Label(4)
    factor = Factor(jnp.ones((5, 4)), (k, h), "W")
    text = formula((6, 4), (6, 5), Term((factor,), over(n, h), over(n, k)))
    assert text == "δ[i,i'] W[k,j]"


def test_deltas():
    i = Label(3)
    assert Block.identity((2, 3)).structure == "δ[i,i'] δ[j,j']"
    assert formula((3, 3), (3,), Term((), over(i, i), over(i))) == "δ[i,i'] δ[i,i'']"
    assert formula((3, 3), (3, 3), Term((), over(i, i), over(i, i))) == (
        "δ[i,i'] δ[i,i''] δ[i,i''']"
    )
    assert Block.identity(()).structure == "1"


def test_nothing_and_constants():
    assert Block.zeros((2,), (3,)).structure == "0"
    assert formula((2,), (3,), Term((), over(Label(2)), over(Label(3)))) == "1"
    assert formula((2,), (3,), Term((), over(Label(2)), over(Label(3)), -2.5)) == "-2.5"


def test_relations_that_are_no_deltas_stand_in_brackets():
    i, j = Label(4), Label(3)
    assert formula((4,), (5,), Term((), over(i), (Index.of(i, 1, 1),))) == "[wrt0=i+1]"
    assert formula((4,), (5,), Term((), over(i), over(i))) == "δ[i,i'] [i<4]"
    assert formula((7,), (5,), Term((), over(i), over(i))) == "δ[i,i'] [i<4]"
    assert formula((4,), (9,), Term((), over(i), (Index.of(i, -2, 7),))) == "[wrt0=-2i+7]"
    flat = Index(0, ((i, 3), (j, 1)))
    assert formula((12,), (4, 3), Term((), (flat,), over(i, j))) == "[out0=3i+j]"
    window = Index(-1, ((i, 1), (j, 1)))
    assert formula((4,), (4,), Term((), over(i), (window,))) == "[wrt0=i+j-1]"
    assert formula((4,), (5,), Term((), over(i), (Index(2),))) == "[wrt0=2]"
    assert formula((4,), (5,), Term((), over(i), (Index(0),))) == "[wrt0=0]"
    assert formula((4,), (1,), Term((), over(i), (Index(0),))) == "1"
    lookup = Lookup(jnp.zeros(4, int), (i,))
    assert formula((4,), (5,), Term((), over(i), (Index(0, (), lookup),))) == "[wrt0=lookup[i]]"


def test_sums_and_signs():
    values = jnp.ones(3)
    i, j, k = Label(3), Label(3), Label(3)
    probability, other = Factor(values, (i,), "p"), Factor(values, (j,), "p")
    diagonal = Term((Factor(values, (k,), "p"),), over(k), over(k))
    outer = Term((probability, other), over(i), over(j), -1)
    assert formula((3,), (3,), diagonal, outer) == "δ[i,i'] p[i] - p[i] p[j]"
    assert (-Block.diag(values, "p")).structure == "-δ[i,i'] p[i]"
    assert (0.5 * Block.diag(values, "p")).structure == "0.5 δ[i,i'] p[i]"
    stencil = add(-Block.identity((3,), np.float64), 2 * Block.from_dense(jnp.ones((3, 3)), 1, "M"))
    assert stencil.structure in ("-δ[i,i'] + 2 M[i,j]", "A[i,j]")


def test_names():
    """The same array has the same name everywhere, two arrays never share one."""
    one, other = jnp.ones(3), jnp.zeros(3)
    i, j = Label(3), Label(3)
    twice = Term((Factor(one, (i,), "X"), Factor(other, (j,), "X")), over(i), over(j))
    assert formula((3,), (3,), twice) == "X[i] X2[j]"
    nameless = Term((Factor(one, (i,)), Factor(other, (j,)), Factor(one, (j,))), over(i), over(j))
    assert formula((3,), (3,), nameless) == "A[i] B[j] A[j]"
    taken = Term((Factor(one, (i,)), Factor(other, (j,), "A")), over(i), over(j))
    assert formula((3,), (3,), taken) == "B[i] A[j]"


def test_a_scalar_factor_has_no_labels():
    assert Block.from_dense(jnp.asarray(2.0), 0, "s").structure == "s"


def test_many_labels_keep_apart():
    rank = 30
    structure = Block.identity((2,) * rank).structure
    assert structure.count("δ") == rank
    assert len(set(structure.split())) == rank
