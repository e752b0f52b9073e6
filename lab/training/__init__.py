"""Making weights: data, losses, and the loop around them."""
