"""Writes recordings of rooms to disk."""
