"""Threads that encode and decode many streams in steps."""
