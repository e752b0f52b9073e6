"""The codec's layers in training, time-major in bfloat16 on CPUs that multiply it (AMX or
AVX-512)."""
