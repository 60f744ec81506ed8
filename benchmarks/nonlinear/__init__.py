"""Nonlinear programs in plain JAX, from their equations: power flow, collocation, a rocket."""
