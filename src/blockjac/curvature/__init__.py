"""Curvature kept in factors: Gauss-Newton, Fisher and Kronecker-factored matrices."""
