"""Tables as people have them: read from files, typed, and encoded as numbers."""
