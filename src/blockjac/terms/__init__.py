"""The data of a block: labels, index expressions, factors, terms, and the block that they make."""
