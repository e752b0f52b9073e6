"""Language models of codes, and the arithmetic coder that uses them."""
