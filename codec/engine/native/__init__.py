"""The native engine in C++. `_native` and `_integer_lm` are built from it where there is a
compiler."""
