"""What is computed with blocks: contraction, sums, entries, and what each would cost."""
