"""KFAC: the layers of a model, found in its program, and two Kronecker factors of each."""
