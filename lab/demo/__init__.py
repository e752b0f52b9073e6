"""A conversation between two clients, shown and measured."""
