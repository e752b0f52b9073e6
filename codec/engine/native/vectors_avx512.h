// Vectors of AVX-512 for kernels_body.h, included inside an unnamed namespace.

using V = __m512;
constexpr Size WIDTH = 16, PANEL = 64;
constexpr int ROWS = 6;  // 24 sums, 4 columns and a value: 29 of 32 registers

inline V load(const float* p) { return _mm512_loadu_ps(p); }
inline void store(float* p, V v) { _mm512_storeu_ps(p, v); }
inline V set1(float x) { return _mm512_set1_ps(x); }
inline V fma(V a, V b, V c) { return _mm512_fmadd_ps(a, b, c); }
inline V min(V a, V b) { return _mm512_min_ps(a, b); }
inline V max(V a, V b) { return _mm512_max_ps(a, b); }
inline float sum(V v) { return _mm512_reduce_add_ps(v); }
inline V where_greater(V a, V b, V x, V y) { return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_GT_OQ), y, x); }
inline V pow2(V n) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(_mm512_castps_si512(n), _mm512_set1_epi32(127)), 23));
}

inline __m512i bits(V v) { return _mm512_castps_si512(v); }
inline V whole(V sums) { return _mm512_cvtepi32_ps(bits(sums)); }
inline void store_lowest_bytes(unsigned char* p, V v) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(bits(v)));
}
