"""The WebSocket of a call."""
