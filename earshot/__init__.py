"""Earshot: voice chat at 1.5 to 12 kbps with a streaming EnCodec. This package holds the command
line."""
