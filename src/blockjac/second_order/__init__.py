"""Second derivatives in one pass: Jacobians forwards, each symmetric product once."""
