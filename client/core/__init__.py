"""What the client decides, without I/O: packets, samples and times go in and come out."""
