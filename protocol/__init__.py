"""What travels between client and server: packets, control messages, close codes, and how their
numbers go on (docs/protocol.md)."""
