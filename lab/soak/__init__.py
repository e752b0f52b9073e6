"""Peers that come and go for a long time: what server and clients keep of them."""
