"""Literals in every operand position: each equation of the case table with its scalars held fixed.

A number that is known while tracing is no array in a jaxpr but a literal: a Python number, a NumPy
scalar or an array, weakly typed or not. Every rule has to take it wherever it stands, while other
operands are differentiated.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from support.agreement import ORACLES, ORDERS, agree, differentiated
from support.cases import CASES, FORWARD_ONLY, Case

import blockjac
from blockjac.base import compat
from blockjac.elimination.evaluate import evaluate
from blockjac.graph.graph import Literal, Operand
from blockjac.graph.trace import trace

KINDS = {
    "array": jnp.asarray,
    "Python number": lambda value: value.item(),
    "NumPy scalar": lambda value: value[()],
    "NumPy array": lambda value: value,
    "weak array": lambda value: jnp.asarray(value.item()),
}
"""How a constant may be written."""

FEW = ("array", "Python number")
"""The kinds of the quick suite."""


def dot(x, y):
    return lax.dot_general(x, y, (((), ()), ((), ())))


def scattered(scatter, x, update):
    """One number put into a vector at place 1."""
    numbers = lax.ScatterDimensionNumbers((), (0,), (0,))
    return scatter(x, jnp.array([1]), update, numbers)


one, two = np.float64(1), np.float64(2)
SCALARS: dict[str, Case] = {
    "add": Case(lax.add, ((), ())),
    "sub": Case(lax.sub, ((), ())),
    "mul": Case(lax.mul, ((), ())),
    "div": Case(lax.div, ((), ()), 0.5, 2),
    "rem": Case(lax.rem, ((), ()), 0.7, 5),
    "pow": Case(lax.pow, ((), ()), 0.3, 2),
    "pow-int": Case(lax.pow, ((), jnp.array(3))),
    "pow-array": Case(jnp.power, ((3,), ()), 0.3, 2),
    "pow-array-base": Case(jnp.power, ((), (3,)), 0.3, 2),
    "rem-array": Case(jnp.fmod, ((3,), ()), 0.7, 5),
    "atan2": Case(lax.atan2, ((), ())),
    "atan2-array": Case(jnp.arctan2, ((3,), ())),
    "max": Case(lax.max, ((), ()), smooth=False),
    "min": Case(lax.min, ((), ()), smooth=False),
    "igamma": Case(lax.igamma, ((), ()), 0.5, 3, smooth=False),
    "igammac": Case(lax.igammac, ((), ()), 0.5, 3, smooth=False),
    "polygamma": Case(lambda x: lax.polygamma(one, x), ((),), 0.5, 3),
    "betainc": Case(lambda x: lax.betainc(two, two, x), ((),), 0.1, 0.9),
    "add_any": Case(jax.grad(lambda x, y: jnp.sin(x) * x * y), ((), ())),
    "clamp": Case(lambda x: lax.clamp(-one, x, one), ((4,),), smooth=False),
    "clamp-scalar": Case(lambda x: lax.clamp(-one, x, one), ((),), smooth=False),
    "select_n": Case(lax.select_n, (jnp.array(True), (), ())),
    "select_n-array": Case(lax.select_n, (jnp.array(False), (3,), (3,))),
    "select_n-three": Case(lax.select_n, (jnp.array(1), (), (), ())),
    "dot_general-left": Case(dot, ((), (3,))),
    "dot_general-right": Case(dot, ((2, 3), ())),
    "dot_general": Case(dot, ((), ())),
    "stack": Case(lambda x, y: jnp.stack([x, y]), ((), ())),
    "pad": Case(lambda x, v: lax.pad(x, v, ((1, 2, 1),)), ((3,), ()), modes=FORWARD_ONLY),
    "pad-scalar": Case(lambda x, v: lax.pad(x, v, ()), ((), ()), modes=FORWARD_ONLY),
    "dynamic_slice": Case(
        lambda x, i, j: lax.dynamic_slice(x, (i, j), (2, 1)),
        ((4, 3), jnp.array(1), jnp.array(2)),
    ),
    "dynamic_slice-off-the-end": Case(
        lambda x, i, j: lax.dynamic_slice(x, (i, j), (2, 1)),
        ((4, 3), jnp.array(9), jnp.array(-2)),
    ),
    "dynamic_update_slice": Case(
        lambda x, u, i: lax.dynamic_update_slice(x, u, (i,)), ((4,), (2,), jnp.array(1))
    ),
    "dynamic_update_slice-scalar": Case(lambda x, u: lax.dynamic_update_slice(x, u, ()), ((), ())),
    "scatter": Case(lambda x, u: scattered(lax.scatter, x, u), ((3,), ())),
    "scatter-add": Case(lambda x, u: scattered(lax.scatter_add, x, u), ((3,), ())),
    "scatter-sub": Case(lambda x, u: scattered(lax.scatter_sub, x, u), ((3,), ())),
    "scatter-min": Case(lambda x, u: scattered(lax.scatter_min, x, u), ((3,), ()), smooth=False),
    "scatter-max": Case(lambda x, u: scattered(lax.scatter_max, x, u), ((3,), ()), smooth=False),
    "optimization_barrier": Case(lambda x, y: lax.optimization_barrier((x, y)), ((), ())),
    "complex": Case(lambda x, y: jnp.abs(lax.complex(x, y)), ((), ())),
    "while": Case(
        lambda x, n: lax.while_loop(lambda c: c[1] < n, lambda c: (c[0] * x, c[1] + 1), (x, 0))[0],
        ((), jnp.array(3)),
        modes=FORWARD_ONLY,
    ),
    "scan": Case(
        lambda x, y: lax.scan(lambda c, _: (jnp.sin(c) * y, c), x, None, length=3), ((), ())
    ),
    "cond": Case(
        lambda p, x, y: lax.cond(p, jnp.multiply, jnp.add, x, y), (jnp.array(True), (), ())
    ),
    "switch": Case(
        lambda i, x, y: lax.switch(i, [jnp.multiply, jnp.add, jnp.arctan2], x, y),
        (jnp.array(2), (), ()),
    ),
    "custom_jvp": Case(jnp.logaddexp, ((), ())),
}
"""Calls with operands of shape (), beside those of the table."""


JAX_IS_WRONG = {"dynamic_slice-uint8"}
"""JAX reads a slice at such a literal at place 0."""


@dataclass(frozen=True)
class Program:
    """One equation at a point.

    Attributes:
        primitive: of the equation.
        params: of the equation.
        operands: values of its operands.
        moving: which of them are differentiated.
        modes: the oracles that JAX has.
    """

    primitive: Any
    params: dict[str, Any]
    operands: tuple[Any, ...]
    moving: tuple[bool, ...]
    modes: tuple[str, ...]

    @property
    def orders(self) -> tuple[str, ...]:
        """Our orders: all, but for loops that nobody differentiates backwards."""
        return FORWARD_ONLY if self.primitive.name == "while" else ORDERS

    def holding(self, place: int, constant: Any) -> tuple[Any, list[Any]]:
        """The equation as a function of what moves but the operand at a place, and this point."""
        free = [number for number, moves in enumerate(self.moving) if moves and number != place]

        def function(*parts: Any) -> list[Any]:
            operands = list(self.operands)
            operands[place] = constant
            for number, part in zip(free, parts, strict=True):
                operands[number] = part
            results = compat.bind(self.primitive, operands, self.params)
            parts = [
                part
                for one in results
                for part in ((one.real, one.imag) if jnp.iscomplexobj(one) else (one,))
            ]
            return [one for one in parts if jnp.issubdtype(one.dtype, jnp.floating)]

        return function, [self.operands[number] for number in free]


def programs_of(case: Case) -> dict[Any, Program]:
    """The equations of a case with a scalar among their operands, each kind of them once."""
    arguments = case.values()
    graph = trace(
        lambda *parts: jax.tree.leaves(case.function(*parts)),
        arguments,
        differentiated(arguments),
    )
    equations = [
        equation
        for equation in graph.equations
        if any(graph.aval(one).shape == () for one in equation.operands)
        and any(map(is_moving, equation.operands))
    ]
    if not equations:
        return {}

    @jax.jit
    def operands_of(arguments):
        values = evaluate(graph, arguments, graph.captured).values
        return [
            [
                jnp.asarray(one.array) if isinstance(one, Literal) else values[one.value]
                for one in equation.operands
            ]
            for equation in equations
        ]

    found = {}
    for equation, operands in zip(equations, operands_of(arguments), strict=True):
        program = Program(
            equation.primitive,
            equation.params,
            tuple(map(known, operands)),
            tuple(map(is_moving, equation.operands)),
            case.modes,
        )
        types = tuple((one.shape, one.dtype) for one in operands)
        found.setdefault((equation.primitive.name, types, str(equation.params)), program)
    return found


def is_moving(operand: Any) -> bool:
    return isinstance(operand, Operand) and operand.vertex is not None


def known(array: Any) -> Any:
    """The array of NumPy, but for random keys."""
    return array if jnp.issubdtype(array.dtype, jax.dtypes.extended) else np.asarray(array)


def check(program: Program, kinds: Any = tuple(KINDS)) -> int:
    """Every scalar of an equation held fixed, in every way of writing it; how many were."""
    compared = 0
    for place, operand in enumerate(program.operands):
        if isinstance(operand, np.ndarray) and operand.shape == ():
            compared += check_place(program, place, operand, kinds)
    return compared


def check_place(program: Program, place: int, operand: Any, kinds: Any) -> bool:
    functions = {}
    for kind in kinds:
        written = KINDS[kind](operand)
        if jnp.asarray(written).dtype == operand.dtype:  # a Python int is one of 64 bits
            functions[kind], point = program.holding(place, written)
    if not point or not jax.eval_shape(functions["array"], *point):
        return False
    every = tuple(range(len(point)))

    @jax.jit
    def both(*point):
        theirs = [ORACLES[mode](functions["array"], every)(*point) for mode in program.modes]
        ours = [
            blockjac.jacobian(function, every, order=order)(*point)
            for function in functions.values()
            for order in program.orders
        ]
        return ours, theirs

    ours, theirs = both(*point)
    for found in ours:
        for wanted in theirs:
            agree(found, wanted, True)
    return True


@pytest.mark.parametrize("name", SCALARS)
def test_a_scalar_beside_what_moves_may_be_a_literal(name):
    programs = programs_of(SCALARS[name]).values()
    assert sum(check(program, FEW) for program in programs)


@pytest.mark.thorough
def test_every_scalar_of_the_case_table_may_be_a_literal():
    programs: dict[Any, Program] = {}
    for name, case in [*SCALARS.items(), *CASES.items()]:
        if name not in JAX_IS_WRONG:
            programs = programs_of(case) | programs
    compared = sum(map(check, programs.values()))
    assert compared >= 100


SIZE_ONE = {
    "add": lax.add_p,
    "sub": lax.sub_p,
    "mul": lax.mul_p,
    "div": lax.div_p,
    "rem": lax.rem_p,
    "pow": lax.pow_p,
    "atan2": lax.atan2_p,
    "max": lax.max_p,
    "min": lax.min_p,
}


@pytest.mark.parametrize("name", SIZE_ONE)
def test_an_operand_of_one_number_may_have_any_rank(name):
    """Beside an array of two axes: () as a literal, (1, 1) as a constant or a variable."""
    primitive, other = SIZE_ONE[name], np.array([[0.7, 1.9, 1.1]])
    cases = []
    for shape in ((), (1, 1)):
        constant = np.broadcast_to(np.array(1.3), shape)
        cases += [
            (lambda x, constant=constant: primitive.bind(x, constant), [other]),
            (lambda x, constant=constant: primitive.bind(constant, x), [other]),
            (lambda x, y: primitive.bind(x, y), [constant, other]),
            (lambda x, y: primitive.bind(x, y), [other, constant]),
        ]

    @jax.jit
    def both():
        return [
            (
                jax.jacfwd(function, tuple(range(len(point))))(*point),
                [
                    blockjac.jacobian(function, tuple(range(len(point))), order=order)(*point)
                    for order in ORDERS
                ],
            )
            for function, point in cases
        ]

    for theirs, ours in both():
        for found in ours:
            agree(found, theirs, False)


@pytest.mark.parametrize("kind", KINDS)
def test_equal_programs_with_other_literals_are_told_apart(kind):
    x = jnp.arange(1.0, 4.0)

    def divided(number):
        constant = KINDS[kind](np.array(number))
        return lambda x: lax.div(x, lax.broadcast(dot(constant, 1.0), x.shape))

    for number in (2.0, 3.0, 2.0, -0.0, 0.0):
        found = blockjac.jacobian(divided(number))(x)
        np.testing.assert_array_equal(np.diagonal(found), 1 / jnp.full(3, number))


def test_the_product_with_a_literal_stores_nothing():
    block = blockjac.block_jacobian(jax.grad(lambda x: x @ x))(jnp.ones(5))
    assert block.stored == 0
    np.testing.assert_array_equal(block.dense(), 2 * np.eye(5))


def test_a_slice_at_a_literal_place_and_a_choice_by_a_literal_are_structure():
    x = jnp.arange(4.0)
    sliced = blockjac.block_jacobian(lambda x: lax.dynamic_slice(x, (1,), (2,)))(x)
    chosen = blockjac.block_jacobian(lambda x: lax.select_n(jnp.array(False), x, x * x))(x)
    assert sliced.stored == chosen.stored == 0
    assert sliced.nnz == 2


def test_a_plan_takes_literals():
    gradient = jax.grad(lambda x: jnp.sin(x) @ x)
    blockjac.plan(gradient)(jnp.ones(5))
    found = blockjac.jacobian(gradient, order="greedy")(jnp.ones(5))
    agree(found, jax.hessian(lambda x: jnp.sin(x) @ x)(jnp.ones(5)), False)
