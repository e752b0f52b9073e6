"""What makes, measures and judges Earshot; nothing that runs a call imports it."""
