"""Entropy coding of live packets, on a thread of its own. client/wiring.py brings it into a
call."""
