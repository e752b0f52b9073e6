"""Music: windows of a second from a stereo model."""
