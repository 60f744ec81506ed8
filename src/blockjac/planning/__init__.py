"""Planning: what an order of elimination would cost, and which order to take."""

from blockjac.planning.annealing import Search
from blockjac.planning.orders import Order, check_order, choose_order, choose_unfinished
from blockjac.planning.plan import Plan

__all__ = ["Order", "Plan", "Search", "check_order", "choose_order", "choose_unfinished"]
