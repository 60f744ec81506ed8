"""Descent with backtracking and nonlinear least squares over any pytree of parameters."""

from blockjac.optimize.descent import DescentResult, Trace, descent
from blockjac.optimize.least_squares_result import LeastSquaresResult, LeastSquaresTrace, Stop
from blockjac.optimize.levenberg_marquardt import levenberg_marquardt
from blockjac.optimize.line_search import Backtracking, LineSearchResult, Status, backtrack
from blockjac.optimize.plots import LineProfile, line_profile, plot_history, plot_line_search

__all__ = [
    "Backtracking",
    "DescentResult",
    "LeastSquaresResult",
    "LeastSquaresTrace",
    "LineProfile",
    "LineSearchResult",
    "Status",
    "Stop",
    "Trace",
    "backtrack",
    "descent",
    "levenberg_marquardt",
    "line_profile",
    "plot_history",
    "plot_line_search",
]
