"""What makes, measures and judges Earshot; nothing that runs a call imports it."""

import logging
from pathlib import Path

VOICES = Path(__file__).parent / "voices"
"""The folder of Earshot's own clips of speech."""

# Where the user's folder cannot be written, matplotlib says so at each start, and works.
logging.getLogger("matplotlib").setLevel(logging.ERROR)
