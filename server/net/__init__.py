"""Sockets of the server: HTTP, WebSocket, the process."""
