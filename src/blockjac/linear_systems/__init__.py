"""Linear systems with the matrix of a grid of blocks, factored as its structure allows."""
