"""The native engine's C++, and `_native`, which is made of it where there is a compiler."""
