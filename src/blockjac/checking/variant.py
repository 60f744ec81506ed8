"""What is taken for the right cotangent of a step's start."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Variant:
    """A cotangent of u in place of the right one.

    Attributes:
        name: of the mistake.
        hint: what was done in place of what; `{step}` stands for the step.
        cotangent: of u.
        doubt: how much less likely it is than the others.
    """

    name: str
    hint: str
    cotangent: np.ndarray
    doubt: int = 0
