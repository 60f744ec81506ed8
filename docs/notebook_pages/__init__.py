"""Notebooks as pages: executed when the site is built, kept until something changes, written."""
