"""The program that is differentiated, as a flat graph, and what is known about its values."""
