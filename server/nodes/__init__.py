"""Several nodes that serve the same rooms, over NATS. Nothing here is imported where no bus is
configured."""
