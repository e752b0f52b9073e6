"""Files of codes (`.ecdc`)."""
