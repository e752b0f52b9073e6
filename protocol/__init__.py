"""What travels between client and server: packets, control messages, close codes."""
