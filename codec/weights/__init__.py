"""Finds, fetches, checks and loads weights."""
