// Kernels for x86 processors with AVX-512.
#include "kernels.h"

#ifdef EARSHOT_X86

#include <immintrin.h>

namespace earshot {

namespace {

#include "vectors_avx512.h"

inline V low_half(V words) { return _mm512_castsi512_ps(_mm512_slli_epi32(bits(words), 16)); }
inline V high_half(V words) { return _mm512_and_ps(words, _mm512_castsi512_ps(_mm512_set1_epi32(-0x10000))); }
inline V dot_halves(V x, V w, V sum) { return fma(high_half(x), high_half(w), fma(low_half(x), low_half(w), sum)); }
inline V dot_bytes(V x, V w, V sum) {
    const __m512i even = _mm512_madd_epi16(_mm512_and_si512(bits(x), _mm512_set1_epi16(255)),
                                           _mm512_srai_epi16(_mm512_slli_epi16(bits(w), 8), 8));
    const __m512i odd = _mm512_madd_epi16(_mm512_srli_epi16(bits(x), 8), _mm512_srai_epi16(bits(w), 8));
    return _mm512_castsi512_ps(_mm512_add_epi32(bits(sum), _mm512_add_epi32(even, odd)));
}
inline __m256i rounded(V v) {  // to the nearest bf16, ties to even
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits(v), 16), _mm512_set1_epi32(1));
    return _mm512_cvtepi32_epi16(
        _mm512_srli_epi32(_mm512_add_epi32(bits(v), _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff))), 16));
}
inline V round_pairs(V a, V b) {
    return _mm512_castsi512_ps(_mm512_inserti64x4(_mm512_castsi256_si512(rounded(a)), rounded(b), 1));
}

#include "kernels_body.h"

bool supported() {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma");
}

}  // namespace

const Kernels AVX512{"avx512", PANEL, TALL_PANEL, false, supported, multiply, lstm, add_elu, changes,
                     dot, nearest, round, quantise};

}  // namespace earshot

#endif
