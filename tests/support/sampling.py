"""Long lists of cases, of which every run tries some and `--thorough` tries all."""

import pytest


def sampled(cases, count):
    """The cases as parameters: about `count` of them, spread over all, and the others thorough."""
    cases = list(cases)
    step = max(1, len(cases) // count)
    return [
        case if place % step == 0 else pytest.param(case, marks=pytest.mark.thorough)
        for place, case in enumerate(cases)
    ]
