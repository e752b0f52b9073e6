"""The page with which a browser joins a room: JavaScript, and the codec in WebAssembly. The server
serves these files; docs/protocol.md and docs/architecture.md say what they keep to."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent
"""Where the files are."""
