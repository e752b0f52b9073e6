// Kernels for every processor: four floats at a time, in the compiler's own vectors where it has them (NEON, SSE2, wasm).
#include "kernels.h"

namespace earshot {

namespace {

constexpr Size WIDTH = 4, PANEL = 16;
#if defined(__x86_64__) || defined(__i386__)
constexpr int ROWS = 2;  // 8 sums, 4 columns, a value and a product: 14 of 16 registers
#else
constexpr int ROWS = 6;  // 24 sums, 4 columns and a value: 29 of 32 registers
#endif

#if defined(__GNUC__)
using V = float __attribute__((vector_size(16)));
using Bits = std::uint32_t __attribute__((vector_size(16)));

inline V load(const float* p) {
    V v;
    std::memcpy(&v, p, sizeof v);
    return v;
}
inline void store(float* p, V v) { std::memcpy(p, &v, sizeof v); }
inline V set1(float x) { return V{x, x, x, x}; }
inline V where_greater(V a, V b, V x, V y) { return a > b ? x : y; }
inline V pow2(V n) {
    Bits bits;
    std::memcpy(&bits, &n, sizeof bits);
    bits = (bits + 127) << 23;
    std::memcpy(&n, &bits, sizeof bits);
    return n;
}
#else
struct V {
    float lane[4];
    float operator[](int i) const { return lane[i]; }
};

template <class F>
inline V each(F f) {
    return V{{f(0), f(1), f(2), f(3)}};
}
inline V operator+(V a, V b) { return each([&](int i) { return a[i] + b[i]; }); }
inline V operator-(V a, V b) { return each([&](int i) { return a[i] - b[i]; }); }
inline V operator*(V a, V b) { return each([&](int i) { return a[i] * b[i]; }); }
inline V operator/(V a, V b) { return each([&](int i) { return a[i] / b[i]; }); }
inline V load(const float* p) { return each([&](int i) { return p[i]; }); }
inline void store(float* p, V v) { std::memcpy(p, v.lane, sizeof v.lane); }
inline V set1(float x) { return V{{x, x, x, x}}; }
inline V where_greater(V a, V b, V x, V y) { return each([&](int i) { return a[i] > b[i] ? x[i] : y[i]; }); }
inline V pow2(V n) {
    return each([&](int i) {
        std::uint32_t bits;
        std::memcpy(&bits, &n.lane[i], sizeof bits);
        bits = (bits + 127) << 23;
        float power;
        std::memcpy(&power, &bits, sizeof power);
        return power;
    });
}
#endif

inline V fma(V a, V b, V c) { return a * b + c; }
inline V min(V a, V b) { return where_greater(b, a, a, b); }
inline V max(V a, V b) { return where_greater(a, b, a, b); }
inline float sum(V v) { return (v[0] + v[2]) + (v[1] + v[3]); }

#include "kernels_body.h"

bool supported() { return true; }

}  // namespace

const Kernels PORTABLE{"portable", PANEL, supported, multiply, lstm, add_elu, dot, nearest};

}  // namespace earshot
