"""Elemental Jacobians that are applied and not written down."""
