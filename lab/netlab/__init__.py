"""Calls over networks that are made worse on purpose, beside WebRTC on the same ones."""
