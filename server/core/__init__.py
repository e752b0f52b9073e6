"""Decisions of the server without I/O: bytes, times and messages in, decisions out."""
