"""Training on tables from the command line, predicting, and looking at models."""
