"""What a call shows, and the keys that it takes."""
