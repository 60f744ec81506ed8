"""Is a hand-written derivative right? Compared with the exact one, and its mistakes named."""

from blockjac.checking.check import check_jacobian
from blockjac.checking.exercises import Exercise, exercise
from blockjac.checking.grad import check_grad
from blockjac.checking.report import JacobianReport

__all__ = ["Exercise", "JacobianReport", "check_grad", "check_jacobian", "exercise"]
