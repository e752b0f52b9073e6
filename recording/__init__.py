"""Recordings of rooms (docs/recordings.md): their format, a description of what one holds, and how
it becomes audio again."""
