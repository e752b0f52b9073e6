"""Where sound comes from and goes to: devices, files, and the thread that encodes."""
