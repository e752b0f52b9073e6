"""A listening test after ITU-R BS.1534 (MUSHRA), as the EnCodec paper (arXiv 2210.13438, section
4.3) ran it."""
