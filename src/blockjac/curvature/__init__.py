"""Curvature kept in factors: Gauss-Newton and Fisher matrices."""
