"""Recordings of rooms: their format, what one holds, and how it becomes audio again
(docs/recordings.md)."""
