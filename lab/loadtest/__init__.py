"""A load test of a real server with real speakers (`earshot bench server`)."""
