"""The Jacobian that an explanation prints: all its formulas, read and evaluated one by one."""

from support.printed_formulas import Printed

from blockjac.explanations.expressions import Formula
from blockjac.explanations.layout import pieces
from blockjac.explanations.places import letters_of, place_letters
from blockjac.explanations.styles.text import TEXT


def sizes_of(formula):
    letters = set(letters_of(formula.body))
    for place in formula.letters:
        letters |= place_letters(place)
    return {TEXT.letter(letter): letter.size for letter in letters}


def jacobian_as_printed(explanation):
    """Evaluate all that is printed, from the variables of the program on.

    Returns:
        For each result and each argument the name of the block and its array.
    """
    assert explanation.checked is True
    names = {TEXT.called(name): array for name, array in explanation.numbers.arrays.items()}
    known = {
        TEXT.name(variable.name): names[TEXT.name(variable.name)]
        for variable in explanation.program.variables.values()
    }
    computed = {name: array for name, array in names.items() if name not in known}
    for equation in explanation.formulas.equations:
        assert isinstance(equation, Formula)
        printed = " ".join(pieces(equation, TEXT))
        # Beside the formulas a reader has what is said to have none: by name, from the library.
        formula = Printed(
            printed, {**_without_formulas(explanation, computed), **known}, sizes_of(equation)
        )
        name = TEXT.called(equation.name)
        known[name] = formula.evaluate(equation.shape)
    blocks = [
        TEXT.called(rule.derivative(variable.number))
        for rule in explanation.rules
        for variable in explanation.program.independents
    ]
    return [(name, known[name]) for name in blocks]


def _without_formulas(explanation, computed):
    """The arrays that the explanation says have no formula."""
    opaque = {
        TEXT.called(elemental.derivative): f"({TEXT.called(elemental.derivative)})"
        for elemental in explanation.steps
        if elemental.formula is None
    }
    words = {
        TEXT.name(name)
        for elemental in explanation.steps
        for name, definition in elemental.definitions
        if isinstance(definition, str)
    }
    arrays = {opaque[name]: array for name, array in computed.items() if name in opaque}
    return arrays | {name: array for name, array in computed.items() if name in words}
