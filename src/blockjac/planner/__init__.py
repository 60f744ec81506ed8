"""Planning: what an order of elimination would cost, and which order to take."""

from blockjac.planner.orders import Order, check_order, choose_order, choose_unfinished
from blockjac.planner.plan import Plan
from blockjac.planner.search import Search

__all__ = ["Order", "Plan", "Search", "check_order", "choose_order", "choose_unfinished"]
