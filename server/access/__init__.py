"""Who may enter: keys, tokens, and what they allow."""
