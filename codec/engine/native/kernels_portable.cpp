// Kernels for every processor: four floats at a time, in the compiler's own vectors where it has
// them (NEON, SSE2, wasm).
#include "float_bits.h"
#include "kernels.h"

namespace earshot {

namespace {

constexpr Size WIDTH = 4, PANEL = 16;
#if defined(__x86_64__) || defined(__i386__)
constexpr int ROWS = 2;  // 8 sums, 4 columns, a value and a product: 14 of 16 registers
#elif defined(__wasm__)
constexpr int ROWS = 2;  // most of the processors below it are x86-64, too
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

#if defined(__wasm_relaxed_simd__)
inline V fma(V a, V b, V c) { return __builtin_wasm_relaxed_madd_f32x4(a, b, c); }
#else
inline V fma(V a, V b, V c) { return a * b + c; }
#endif
inline V min(V a, V b) { return where_greater(b, a, a, b); }
inline V max(V a, V b) { return where_greater(a, b, a, b); }
inline float sum(V v) { return (v[0] + v[2]) + (v[1] + v[3]); }

template <class F>
inline V words(F f) {  // applies f to each of four words
    return V{float_of(f(0)), float_of(f(1)), float_of(f(2)), float_of(f(3))};
}
inline V low_half(V v) {
    return words([&](int i) { return float_bits(v[i]) << 16; });
}
inline V high_half(V v) {
    return words([&](int i) { return float_bits(v[i]) & 0xffff0000; });
}
inline V dot_halves(V x, V w, V sum) { return fma(high_half(x), high_half(w), fma(low_half(x), low_half(w), sum)); }
inline V dot_bytes(V x, V w, V sum) {
    return words([&](int i) {
        std::uint32_t dot = float_bits(sum[i]);
        for (int byte = 0; byte < 32; byte += 8) {
            const auto with_sign = static_cast<std::int8_t>(float_bits(w[i]) >> byte & 255);
            dot += (float_bits(x[i]) >> byte & 255) * static_cast<std::uint32_t>(with_sign);
        }
        return dot;
    });
}
inline V whole(V sums) {
    const auto lane = [&](int i) { return static_cast<float>(static_cast<std::int32_t>(float_bits(sums[i]))); };
    return V{lane(0), lane(1), lane(2), lane(3)};
}
inline V round_pairs(V a, V b) {
    // To the nearest bf16, ties to even.
    const auto rounded = [](float x) { return (float_bits(x) + 0x7fff + (float_bits(x) >> 16 & 1)) >> 16; };
    const float all[] = {a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3]};
    return words([&](int i) { return rounded(all[2 * i]) | rounded(all[2 * i + 1]) << 16; });
}
inline void store_lowest_bytes(unsigned char* p, V v) {
    for (int i = 0; i < WIDTH; i++) p[i] = static_cast<unsigned char>(float_bits(v[i]) & 255);
}

#if defined(__GNUC__)
using SignedBits = std::int32_t __attribute__((vector_size(16)));
inline V fp16_floats(SignedBits bits) {
    bits = (bits >> 3) & static_cast<std::int32_t>(0x8fffe000);  // sign, exponent below 32, fraction
    V floats;
    std::memcpy(&floats, &bits, sizeof floats);
    return floats;
}
inline V low_fp16(V words) {
    SignedBits bits;
    std::memcpy(&bits, &words, sizeof bits);
    return fp16_floats(bits << 16);
}
inline V high_fp16(V words) {
    SignedBits bits;
    std::memcpy(&bits, &words, sizeof bits);
    return fp16_floats(bits);
}
#else
inline std::uint32_t fp16_float(std::uint32_t bits) { return (bits & 0x80000000) | (bits >> 3 & 0x0fffe000); }
inline V low_fp16(V v) {
    return words([&](int i) { return fp16_float(float_bits(v[i]) << 16); });
}
inline V high_fp16(V v) {
    return words([&](int i) { return fp16_float(float_bits(v[i])); });
}
#endif
#define EARSHOT_FP16 1
#ifdef __wasm__
#define EARSHOT_TALL_PANEL 32  // of one stream: a row has eight sums, as many as multiply-adds are under way
#endif

#include "kernels_body.h"

bool supported() { return true; }

}  // namespace

const Kernels PORTABLE{"portable", PANEL, TALL_PANEL, false, supported, multiply, lstm, add_elu, changes,
                       dot, nearest, round, quantise};

}  // namespace earshot
