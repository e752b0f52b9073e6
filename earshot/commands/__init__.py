"""The commands of `earshot`; each imports what it needs when it runs."""
