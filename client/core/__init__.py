"""Decisions of the client without I/O: packets, samples and times in and out."""
