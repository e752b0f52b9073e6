"""What concealment gains: the same speech with and without it, where frames are missing."""
