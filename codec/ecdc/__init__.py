"""Files of codes (`.ecdc`), and the audio files that they are made from."""
