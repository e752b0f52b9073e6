// Kernels for x86 processors whose AVX-512 has instructions that multiply bf16 and bytes.
#include "kernels.h"

#ifdef EARSHOT_BF16

#include <immintrin.h>

#include <cmath>

namespace earshot {

namespace {

#include "vectors_avx512.h"

inline V dot_halves(V x, V w, V sum) { return _mm512_dpbf16_ps(sum, (__m512bh)x, (__m512bh)w); }
inline V dot_bytes(V x, V w, V sum) {
    // With the intrinsic, gcc 12 copies sums from register to register.
    asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(x), "v"(w));
    return sum;
}
inline V round_pairs(V a, V b) { return (V)_mm512_cvtne2ps_pbh(b, a); }

#include "kernels_body.h"

// Finds the entries that could be the closest in bf16, and compares these in fp32. Rounding x and
// an entry e to bf16 changes x.e by at most (2^-9 + 2^-9 + 2^-18) |x| |e|; the rest of the margin
// covers the rounding of the sums.
void nearest_of_few(const Codebook& book, const float* x, Size rows, float* space, int* index) {
    const Size n = book.columns.n, width = book.width;
    float *dots = space, *words = dots + rows * n;
    round(x, rows * width, words);
    const Part part{words, width / 2, 0, width / 2};
    multiply({&book.columns, &part, 1, rows, 1, {dots, n, 0}, {}, {}, nullptr});
    const float* const norms = book.norms.data();
    for (Size r = 0; r < rows; r++, x += width, dots += n) {
        V squares = set1(0.0f), least = set1(std::numeric_limits<float>::infinity());
        for (Size i = 0; i < width; i += WIDTH) squares = fma(load(x + i), load(x + i), squares);
        for (Size i = 0; i < n; i += WIDTH) least = min(fma(load(dots + i), set1(-2.0f), load(norms + i)), least);
        const float square = sum(squares), longest = book.longest;
        const float margin = 0.0165f * std::sqrt(square) * longest + 2e-6f * (square + longest * longest);
        const V bound = set1(_mm512_reduce_min_ps(least) + margin);
        float best = std::numeric_limits<float>::infinity();
        index[r] = 0;
        for (Size i = 0; i < n; i += WIDTH) {
            unsigned few = _mm512_cmp_ps_mask(fma(load(dots + i), set1(-2.0f), load(norms + i)), bound, _CMP_LE_OQ);
            for (; few; few &= few - 1) {
                const Size entry = i + __builtin_ctz(few);
                if (entry >= book.size) break;
                float product;
                dot(x, 0, book.entries.data() + entry * width, width, 0.0f, &product, 1);
                const float distance = (square - 2.0f * product) + norms[entry];  // as `nearest` of quantizer.py
                if (distance < best) {
                    best = distance;
                    index[r] = static_cast<int>(entry);
                }
            }
        }
    }
}

bool supported() {
    return AVX512.supported() && __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512vnni");
}

}  // namespace

const Kernels AVX512_BF16{"avx512_bf16", PANEL, TALL_PANEL, true, supported, multiply, lstm, add_elu, changes,
                          dot, nearest_of_few, round, quantise};

}  // namespace earshot

#endif
