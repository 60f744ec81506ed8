"""One row per primitive: complete, once, and every fact one of those there are."""

import jax
import pytest

import blockjac
from blockjac.base import compat
from blockjac.errors import RuleError
from blockjac.graph import primitives
from blockjac.graph.primitives import PRIMITIVES, facts_of
from blockjac.rules import OPERATOR_RULES, RULES, ZERO


def test_each_primitive_with_a_rule_has_a_row():
    assert not {*RULES, *ZERO, *OPERATOR_RULES} - set(PRIMITIVES)


def test_a_primitive_without_a_row_is_named():
    with pytest.raises(RuleError, match=r"no facts are known of 'later', 'new'; give each a row"):
        primitives.check_complete(["sin", "new", "later"])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("new no cheap other", "'new' must have 4 facts .*, but has 3"),
        ("new no cheap other real real", "but has 5"),
        ("new no fast other real", "'new' has 'fast' as storage, which must be one of alias, mov"),
    ],
)
def test_a_wrong_row_is_refused_by_name(line, message):
    with pytest.raises(RuleError, match=message):
        dict(primitives._read(f"primitive linear storage operations complex\n{line}"))


def test_a_second_row_is_refused():
    rows = [("sin", primitives.UNKNOWN)] * 2
    with pytest.raises(RuleError, match="'sin' has two rows"):
        primitives._once(rows)


def test_a_second_rule_of_the_library_is_refused(monkeypatch):
    monkeypatch.setattr("blockjac.rules.registry._is_complete", False)
    with pytest.raises(RuleError, match="'sin' is registered twice"):
        blockjac.rules.elementwise("sin", lambda y, x: x)


def test_nothing_is_taken_for_granted_of_a_primitive_from_outside():
    facts = facts_of("mine")
    assert (facts.linear, facts.storage, facts.complex) == ("no", "stored", "real")


def test_rows_name_primitives_that_a_program_can_hold():
    made = jax.make_jaxpr(lambda x: jax.numpy.tanh(x) + 1.0)(1.0)
    names = {equation.primitive.name for equation in compat.open_jaxpr(made).eqns}
    assert names <= set(PRIMITIVES)
