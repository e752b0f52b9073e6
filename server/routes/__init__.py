"""What the server answers over HTTP, beside the WebSockets of the rooms."""
