"""The learning pages: questions about derivatives, and what writes a page for each."""
