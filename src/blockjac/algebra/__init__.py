"""The algebra of blocks: contraction, sums, entries, and what each of them would cost."""
