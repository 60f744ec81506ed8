"""See the chain rule of a function, and take its code home."""
