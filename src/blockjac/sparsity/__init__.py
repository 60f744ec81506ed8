"""Sparsity: patterns, bands and pictures of them."""
