"""The interactive page of an explanation: its graph, its blocks, and elimination played on it."""
