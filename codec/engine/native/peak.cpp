#include "peak.h"

#include "kernels.h"

#ifdef EARSHOT_X86
#include <immintrin.h>
#endif

namespace earshot {

namespace {

using Loop = double (*)(Size rounds);

volatile float sink;  // keeps the compiler from removing the computation
volatile float source = 1e-6f;

// Sums stay in registers only if the loops over them are unrolled.
#if defined(__clang__)
#define EARSHOT_UNROLL _Pragma("unroll")
#elif defined(__GNUC__)
#define EARSHOT_UNROLL _Pragma("GCC unroll 16")
#else
#define EARSHOT_UNROLL
#endif

#ifdef EARSHOT_X86

// Enough sums to hide their latency: two start per cycle, and each is ready after four cycles.
constexpr int MANY = 16, FEW = 12;

__attribute__((target("avx512f"))) double fp32_avx512(Size rounds) {
    const __m512 value = _mm512_set1_ps(source), column = _mm512_set1_ps(source);
    __m512 sums[MANY];
    EARSHOT_UNROLL for (int i = 0; i < MANY; i++) sums[i] = _mm512_set1_ps(static_cast<float>(i));
    for (Size r = 0; r < rounds; r++)
        EARSHOT_UNROLL for (int i = 0; i < MANY; i++) sums[i] = _mm512_fmadd_ps(value, column, sums[i]);
    EARSHOT_UNROLL for (int i = 1; i < MANY; i++) sums[0] = _mm512_add_ps(sums[0], sums[i]);
    sink = _mm512_cvtss_f32(sums[0]);
    return 16.0 * MANY * static_cast<double>(rounds);
}

__attribute__((target("avx2,fma"))) double fp32_avx2(Size rounds) {
    const __m256 value = _mm256_set1_ps(source), column = _mm256_set1_ps(source);
    __m256 sums[FEW];
    EARSHOT_UNROLL for (int i = 0; i < FEW; i++) sums[i] = _mm256_set1_ps(static_cast<float>(i));
    for (Size r = 0; r < rounds; r++)
        EARSHOT_UNROLL for (int i = 0; i < FEW; i++) sums[i] = _mm256_fmadd_ps(value, column, sums[i]);
    EARSHOT_UNROLL for (int i = 1; i < FEW; i++) sums[0] = _mm256_add_ps(sums[0], sums[i]);
    sink = _mm256_cvtss_f32(sums[0]);
    return 8.0 * FEW * static_cast<double>(rounds);
}

#ifdef EARSHOT_BF16
__attribute__((target("avx512f,avx512bf16"))) double bf16_avx512(Size rounds) {
    const __m512bh value = _mm512_cvtne2ps_pbh(_mm512_set1_ps(source), _mm512_set1_ps(source));
    __m512 sums[MANY];
    EARSHOT_UNROLL for (int i = 0; i < MANY; i++) sums[i] = _mm512_set1_ps(static_cast<float>(i));
    for (Size r = 0; r < rounds; r++)
        EARSHOT_UNROLL for (int i = 0; i < MANY; i++) sums[i] = _mm512_dpbf16_ps(sums[i], value, value);
    EARSHOT_UNROLL for (int i = 1; i < MANY; i++) sums[0] = _mm512_add_ps(sums[0], sums[i]);
    sink = _mm512_cvtss_f32(sums[0]);
    return 32.0 * MANY * static_cast<double>(rounds);
}

__attribute__((target("avx512f,avx512vnni"))) double int8_avx512(Size rounds) {
    const __m512i value = _mm512_set1_epi8(static_cast<char>(source + 1.5f));
    __m512i sums[MANY];
    EARSHOT_UNROLL for (int i = 0; i < MANY; i++) sums[i] = _mm512_set1_epi32(i);
    for (Size r = 0; r < rounds; r++)
        EARSHOT_UNROLL for (int i = 0; i < MANY; i++) sums[i] = _mm512_dpbusd_epi32(sums[i], value, value);
    EARSHOT_UNROLL for (int i = 1; i < MANY; i++) sums[0] = _mm512_add_epi32(sums[0], sums[i]);
    sink = static_cast<float>(_mm512_cvtsi512_si32(sums[0]));
    return 64.0 * MANY * static_cast<double>(rounds);
}
#endif

// Reads both halves at once: two places to read from keep the memory busier.
__attribute__((target("avx512f"))) float read_avx512(const float* data, Size size) {
    __m512 sums[8] = {};
    const Size half = size / 128 * 64;
    for (Size at = 0; at < half; at += 64)
        EARSHOT_UNROLL for (int i = 0; i < 8; i++) {
            const float* from = data + at + (i < 4 ? 16 * i : half + 16 * (i - 4));
            sums[i] = _mm512_add_ps(sums[i], _mm512_loadu_ps(from));
        }
    EARSHOT_UNROLL for (int i = 1; i < 8; i++) sums[0] = _mm512_add_ps(sums[0], sums[i]);
    float lanes[16], sum = 0;
    _mm512_storeu_ps(lanes, sums[0]);
    for (const float lane : lanes) sum += lane;
    for (Size at = 2 * half; at < size; at++) sum += data[at];
    return sum;
}

#endif

// Lanes that a compiler turns into vectors.
constexpr int LANE_SUMS = 48;

double fp32_portable(Size rounds) {
    const float value = source;
    float sums[LANE_SUMS];
    for (int i = 0; i < LANE_SUMS; i++) sums[i] = static_cast<float>(i);
    for (Size r = 0; r < rounds; r++)
        for (float& sum : sums) {
#ifdef __FP_FAST_FMAF
            sum = __builtin_fmaf(value, value, sum);
#else
            sum += value * sum;
#endif
        }
    float all = 0;
    for (const float sum : sums) all += sum;
    sink = all;
    return 1.0 * LANE_SUMS * static_cast<double>(rounds);
}

float read_portable(const float* data, Size size) {
    float sums[LANE_SUMS] = {}, all = 0;
    Size at = 0;
    for (; at + LANE_SUMS <= size; at += LANE_SUMS)
        for (int i = 0; i < LANE_SUMS; i++) sums[i] += data[at + i];
    for (; at < size; at++) all += data[at];
    for (const float sum : sums) all += sum;
    return all;
}

Loop fastest(const std::string& precision) {
#ifdef EARSHOT_X86
    const bool wide = __builtin_cpu_supports("avx512f");
#ifdef EARSHOT_BF16
    if (precision == "bf16") return __builtin_cpu_supports("avx512bf16") ? bf16_avx512 : nullptr;
    if (precision == "int8") return __builtin_cpu_supports("avx512vnni") ? int8_avx512 : nullptr;
#endif
    if (precision == "fp32" && wide) return fp32_avx512;
    if (precision == "fp32" && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return fp32_avx2;
#endif
    return precision == "fp32" ? fp32_portable : nullptr;
}

}  // namespace

double multiply_adds(const std::string& precision, Size rounds) {
    const Loop loop = fastest(precision);
    return loop ? loop(rounds) : 0;
}

float read_once(const float* data, Size size) {
#ifdef EARSHOT_X86
    if (__builtin_cpu_supports("avx512f")) return read_avx512(data, size);
#endif
    return read_portable(data, size);
}

}  // namespace earshot
