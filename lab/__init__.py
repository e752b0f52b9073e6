"""What makes, measures and judges Earshot; nothing that runs a call imports it."""

from pathlib import Path

VOICES = Path(__file__).parent / "voices"
"""The folder of Earshot's own clips of speech."""
