"""Entropy coding of live links on the encoding threads."""
