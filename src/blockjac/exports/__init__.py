"""Blocks as the sparse arrays and linear operators of other libraries."""
