"""The engine for one CUDA GPU."""
