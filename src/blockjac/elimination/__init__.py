"""Linearize a graph at a point, then eliminate its vertices one by one."""
