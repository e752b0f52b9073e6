"""Engines: many sessions of one model in one step."""
