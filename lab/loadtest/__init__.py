"""A load test of a real server by real speakers (`earshot bench server`)."""
