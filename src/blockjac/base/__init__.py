"""The foundation: differences between JAX versions, caches, context, and arrays from users."""
