"""How fast the engines are, beside others and beside the floor of this machine."""
