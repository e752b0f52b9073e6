"""The engine in torch: steps as matrix products."""
