"""What everything else stands on: versions of JAX, caches, context, arrays as users give them."""
