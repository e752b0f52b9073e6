"""What several nodes do to calls: what the bus adds, and what is heard when a node or the bus dies
or a node is upgraded (`python -m earshot.lab.nodes`)."""
