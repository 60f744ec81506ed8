"""Planning: what an order of elimination would cost, and which order to take."""

from blockjac.plan.orders import choose_order

__all__ = ["choose_order"]
