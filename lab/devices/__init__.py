"""The delay from one sound device to another, with the buffers of the devices."""
