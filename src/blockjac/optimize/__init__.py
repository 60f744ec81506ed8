"""Descent with backtracking over any pytree of parameters, and pictures of what it did."""

from blockjac.optimize.descent import DescentResult, Trace, descent
from blockjac.optimize.line_search import Backtracking, LineSearchResult, Status, backtrack
from blockjac.optimize.plots import LineProfile, line_profile, plot_history, plot_line_search

__all__ = [
    "Backtracking",
    "DescentResult",
    "LineProfile",
    "LineSearchResult",
    "Status",
    "Trace",
    "backtrack",
    "descent",
    "line_profile",
    "plot_history",
    "plot_line_search",
]
