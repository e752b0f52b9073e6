// Kernels for x86 processors with AVX2 and FMA.
#include "kernels.h"

#ifdef EARSHOT_X86

#include <immintrin.h>

namespace earshot {

namespace {

using V = __m256;
constexpr Size WIDTH = 8, PANEL = 16;
constexpr int ROWS = 6;  // 12 sums, 2 columns and a value: 15 of 16 registers

inline V load(const float* p) { return _mm256_loadu_ps(p); }
inline void store(float* p, V v) { _mm256_storeu_ps(p, v); }
inline V set1(float x) { return _mm256_set1_ps(x); }
inline V fma(V a, V b, V c) { return _mm256_fmadd_ps(a, b, c); }
inline V min(V a, V b) { return _mm256_min_ps(a, b); }
inline V max(V a, V b) { return _mm256_max_ps(a, b); }
inline float sum(V v) {
    __m128 half = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    half = _mm_add_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_add_ss(half, _mm_movehdup_ps(half)));
}
inline V where_greater(V a, V b, V x, V y) { return _mm256_blendv_ps(y, x, _mm256_cmp_ps(a, b, _CMP_GT_OQ)); }
inline V pow2(V n) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_castps_si256(n), _mm256_set1_epi32(127)), 23));
}

inline __m256i bits(V v) { return _mm256_castps_si256(v); }
inline V low_half(V words) { return _mm256_castsi256_ps(_mm256_slli_epi32(bits(words), 16)); }
inline V high_half(V words) { return _mm256_and_ps(words, _mm256_castsi256_ps(_mm256_set1_epi32(-0x10000))); }
inline V dot_halves(V x, V w, V sum) { return fma(high_half(x), high_half(w), fma(low_half(x), low_half(w), sum)); }
inline V dot_bytes(V x, V w, V sum) {
    const __m256i even = _mm256_madd_epi16(_mm256_and_si256(bits(x), _mm256_set1_epi16(255)),
                                           _mm256_srai_epi16(_mm256_slli_epi16(bits(w), 8), 8));
    const __m256i odd = _mm256_madd_epi16(_mm256_srli_epi16(bits(x), 8), _mm256_srai_epi16(bits(w), 8));
    return _mm256_castsi256_ps(_mm256_add_epi32(bits(sum), _mm256_add_epi32(even, odd)));
}
inline V whole(V sums) { return _mm256_cvtepi32_ps(bits(sums)); }
inline __m256i rounded(V v) {  // to the nearest bf16, ties to even, in the lower half of each word
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits(v), 16), _mm256_set1_epi32(1));
    return _mm256_srli_epi32(_mm256_add_epi32(bits(v), _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff))), 16);
}
inline V round_pairs(V a, V b) {
    return _mm256_castsi256_ps(_mm256_permute4x64_epi64(_mm256_packus_epi32(rounded(a), rounded(b)), 0xd8));
}
inline void store_lowest_bytes(unsigned char* p, V v) {
    const __m256i lowest = _mm256_and_si256(bits(v), _mm256_set1_epi32(255));
    const __m128i halves = _mm_packus_epi32(_mm256_castsi256_si128(lowest), _mm256_extracti128_si256(lowest, 1));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packus_epi16(halves, halves));
}

#include "kernels_body.h"

bool supported() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }

}  // namespace

const Kernels AVX2{"avx2", PANEL, TALL_PANEL, false, supported, multiply, lstm, add_elu, changes,
                   dot, nearest, round, quantise};

}  // namespace earshot

#endif
