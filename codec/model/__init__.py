"""EnCodec in torch: layers with explicit state, the quantizer, and sessions."""
