"""Explanations: the chain rule of a function in symbols, with indices, and as code."""
