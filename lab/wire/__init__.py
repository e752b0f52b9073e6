"""What calls cost on the wire, by the kernel's own count."""
