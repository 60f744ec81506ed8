"""The public transforms: Jacobians, gradients, products, Hessians, diagonals, per-example."""
