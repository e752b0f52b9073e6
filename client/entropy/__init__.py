"""Entropy coding of live packets, on a thread of its own."""
