// ELU and the gates of an LSTM over the vector type V of kernels_body.h, which includes this file
// inside its namespace.

// e^x = scale * (1 + p). If x is near zero, p is too, and keeps all its digits. The polynomial is
// (e^r - 1 - r) / r^2 for |r| <= log(2) / 2, fitted to 3e-9 of e^r.
struct Exponential {
    V scale, p;
};

inline Exponential exponential(V x) {  // of x in -87..87
    const V shift = set1(12582912.0f);  // 1.5 * 2^23: at this size floats are whole numbers
    const V shifted = fma(x, set1(1.44269504f), shift);
    const V r = fma(shifted - shift, set1(-0.693147181f), x);
    V q = fma(set1(0.00139505405f), r, set1(0.00836891774f));
    q = fma(q, r, set1(0.0416662060f));
    q = fma(q, r, set1(0.166665182f));
    q = fma(q, r, set1(0.5f));
    return {pow2(shifted), fma(r * r, q, r)};
}

inline V exp_minus_one(V x) {  // of x in -87..87
    const Exponential e = exponential(x);
    return fma(e.scale, e.p, e.scale - set1(1.0f));
}

inline V elu(V x) { return where_greater(x, set1(0.0f), x, exp_minus_one(max(x, set1(-87.0f)))); }

inline V sigmoid(V x) {
    const Exponential e = exponential(min(max(set1(0.0f) - x, set1(-87.0f)), set1(87.0f)));
    return set1(1.0f) / (fma(e.scale, e.p, e.scale) + set1(1.0f));
}

inline V tanh(V x) {
    const V e = exp_minus_one(min(max(x + x, set1(-40.0f)), set1(40.0f)));  // beyond, it is -1 and 1
    return e / (e + set1(2.0f));
}

// WebAssembly has no mode that flushes numbers below 1.2e-38 to zero, and gates that are shut make them.
inline V without_tiny(V v) {
#if defined(__wasm__)
    return where_greater(max(v, set1(0.0f) - v), set1(1e-30f), v, set1(0.0f));
#else
    return v;
#endif
}
