"""Makes sounds to train with and to judge by."""
