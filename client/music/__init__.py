"""Music: windows of a second from a stereo model. client/wiring.py brings it into a call."""
