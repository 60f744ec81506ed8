"""The exceptions: each is a `BlockjacError` and the builtin that JAX raises in such a case."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass


class BlockjacError(Exception):
    """Base of all exceptions that this library raises on purpose."""


class ShapeMismatchError(BlockjacError, TypeError):
    """Two arrays whose shapes do not fit each other; the message names both shapes."""


class InvalidDataError(BlockjacError, ValueError):
    """Data that nothing can be learned from: empty, of one class, or not finite."""


class InvalidOptionError(BlockjacError, ValueError):
    """A bad option, and the base of all errors of one; names it, its value and the range."""


class CommandError(InvalidOptionError):
    """A word of the command line that cannot be used: names it, and says what is wanted."""


class ParameterTypeError(BlockjacError, TypeError):
    """A parameter that is not a real number and so cannot be trained."""


class NonScalarLossError(BlockjacError, TypeError):
    """A loss that does not return one real number."""


class NonFiniteLossError(BlockjacError, ValueError):
    """A loss that is already infinite or nan where the descent would start."""


class OutputPathError(BlockjacError, OSError):
    """A file or folder that cannot be written."""


class SourceError(BlockjacError, ValueError):
    """A program that cannot be written as source code; names the part that cannot, and why."""


class FileFormatError(BlockjacError, ValueError):
    """A file name whose suffix names no format that can be written."""


class MissingExtraError(BlockjacError, ImportError):
    """A package of an optional extra is not installed; the message names the extra."""


class BlockShapeError(BlockjacError, ValueError):
    """Blocks, or a block and an array, whose shapes do not fit; the message names both."""


class BlockTypeError(BlockjacError, TypeError):
    """Something other than a block, shape or index where one is needed; says which."""


class FormatError(InvalidOptionError, BlockTypeError):
    """A format of a matrix that does not exist; the message lists those that do."""


class DenseTooLargeError(BlockjacError, ValueError):
    """A dense result over the size limit; says what it would need and which call avoids it."""


class SingularMatrixError(BlockjacError, ValueError):
    """A linear system that has no solution of any use, where that was checked; says why."""


class OrderError(InvalidOptionError):
    """An elimination order that does not exist; the message lists those that do."""


@dataclass(frozen=True)
class Loss:
    """An equation at which structure is lost.

    Attributes:
        primitive: what the equation computes.
        source: file, line and function of the user's code; empty where JAX has none.
        reason: what happens there.
        advice: what to do about it.
        stored: over how many numbers the result is stored.
        places: how many of them can be other than zero by the structure of the parts; None where
            nothing is known.
    """

    primitive: str
    source: str
    reason: str
    advice: str
    stored: int
    places: int | None

    def __str__(self) -> str:
        at = f" at {self.source}" if self.source else ""
        number = f"{self.stored:,} numbers"
        known = "" if self.places is None else f" for at most {self.places:,} places"
        return f"{self.primitive!r}{at}: {self.reason} ({number}{known}); {self.advice}"


class StructureLostError(BlockjacError, ValueError):
    """Structure would be lost, and `require_structure=True` refuses that; names where and why.

    Attributes:
        losses: the equations at which it would be, each with its source line, the reason and what
            to do; see `blockjac.Plan.losses`.
    """

    def __init__(self, message: str, losses: Sequence[Loss] = ()) -> None:
        super().__init__(message)
        self.losses = tuple(losses)


class ExamplesMeetError(BlockjacError, ValueError):
    """Losses of which one depends on several examples; the message says in which equation."""


class PlanMismatchError(BlockjacError, ValueError):
    """A plan that was made for another function or other shapes; says for which, and what to do."""


class RuleError(BlockjacError, ValueError):
    """A rule whose blocks do not fit its equation; names the rule, what was found and wanted."""


class WrongRuleError(BlockjacError, ArithmeticError):
    """A rule whose blocks differ from the derivative; names the first entry that does."""


class WrongJacobianError(BlockjacError, ArithmeticError):
    """A given derivative that differs from the exact one; the message is the check's report."""


class NoDerivativeError(BlockjacError, NotImplementedError):
    """A derivative that neither this library nor JAX knows."""


class NoWayBackError(BlockjacError, ValueError):
    """A loop of unknown length asked for its derivative backwards; JAX raises ValueError too."""


class DifferentiationTypeError(BlockjacError, TypeError):
    """What has no derivative: an integer or non-array input, a result no float or no scalar."""


class ArgumentError(InvalidOptionError, TypeError):
    """`argnums` that do not fit the arguments, or a bad option of a transform.

    JAX raises TypeError for some of them and ValueError for others.
    """


_log = logging.getLogger("blockjac")
_reported: set[str] = set()


def report_lost_structure(primitive: str, place: str = "") -> None:
    """Tell once for each primitive, in the log, that its structure is not known, and where."""
    if primitive not in _reported:
        _reported.add(primitive)
        _log.warning(
            "blockjac has no structured rule for %r%s: the Jacobian of that equation comes from "
            "JAX, without structure; docs/how-to/add-a-rule.md shows how to give it one",
            primitive,
            f", used at {place}" if place else "",
        )
