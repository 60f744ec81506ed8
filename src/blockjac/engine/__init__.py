"""How a call runs: arguments in, one compiled computation, trees of results out."""
