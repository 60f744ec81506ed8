"""Descent with backtracking and nonlinear least squares over any pytree of parameters."""

from blockjac.optimize.descent import DescentResult, Trace, descent
from blockjac.optimize.gauss_newton_solver import GaussNewton, LevenbergMarquardt
from blockjac.optimize.least_squares_result import LeastSquaresResult, LeastSquaresTrace
from blockjac.optimize.levenberg_marquardt import levenberg_marquardt
from blockjac.optimize.line_search import Backtracking, LineSearchResult, Status, backtrack
from blockjac.optimize.line_search_solver import Descent
from blockjac.optimize.minimize import minimize
from blockjac.optimize.minimize_result import MinimizeResult, MinimizeTrace
from blockjac.optimize.model_loss import ModelLoss
from blockjac.optimize.optax_solver import Optax
from blockjac.optimize.plots import LineProfile, line_profile, plot_history, plot_line_search
from blockjac.optimize.scipy_solver import SciPy
from blockjac.optimize.stops import Stop

__all__ = [
    "Backtracking",
    "Descent",
    "DescentResult",
    "GaussNewton",
    "LeastSquaresResult",
    "LeastSquaresTrace",
    "LevenbergMarquardt",
    "LineProfile",
    "LineSearchResult",
    "MinimizeResult",
    "MinimizeTrace",
    "ModelLoss",
    "Optax",
    "SciPy",
    "Status",
    "Stop",
    "Trace",
    "backtrack",
    "descent",
    "levenberg_marquardt",
    "line_profile",
    "minimize",
    "plot_history",
    "plot_line_search",
]
