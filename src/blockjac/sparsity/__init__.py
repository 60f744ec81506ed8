"""Where a Jacobian has entries: patterns, bands, pictures."""
