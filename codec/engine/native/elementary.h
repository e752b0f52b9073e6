// Logarithm, exponential, sine and cosine without branches or calls, so that compilers make vectors
// of loops over them. They are right to about 1e-7 of their value; of sine and cosine: of 1.
#pragma once

#include "float_bits.h"

namespace earshot {

// 1.5 * 2^23: to add it rounds a small float to a whole number, and leaves that in its lowest bits.
constexpr float ROUNDING = 12582912.0f;

// Of x from 1.2e-38 on. x = 2^n (1 + f) with f within sqrt(1/2) - 1 .. sqrt(2) - 1; the polynomial
// is (log(1 + f) - f + f^2 / 2) / f^3, fitted to 6e-9 of log(1 + f).
inline float logarithm(float x) {
    const std::uint32_t bits = float_bits(x) - 0x3f3504f3u;  // of sqrt(1/2)
    const std::int32_t n = static_cast<std::int32_t>(bits) >> 23;
    const float f = float_of((bits & 0x7fffffu) + 0x3f3504f3u) - 1.0f;
    float p = -0.0785954588f;
    p = p * f + 0.128816224f;
    p = p * f - 0.131287676f;
    p = p * f + 0.141811961f;
    p = p * f - 0.166245531f;
    p = p * f + 0.200022861f;
    p = p * f - 0.250008104f;
    p = p * f + 0.333333167f;
    return static_cast<float>(n) * 0.693147181f + (f - f * f * (0.5f - f * p));
}

// Of x within -87 .. 87. The polynomial is (e^r - 1 - r) / r^2 for |r| <= log(2) / 2, fitted to 3e-9
// of e^r.
inline float exponential(float x) {
    const float shifted = x * 1.44269504f + ROUNDING, n = shifted - ROUNDING;
    const float r = (x - n * 0.693145752f) - n * 1.42860677e-6f;  // log(2), the first part of few digits
    float p = 0.00139505405f;
    p = p * r + 0.00836891774f;
    p = p * r + 0.0416662060f;
    p = p * r + 0.166665182f;
    p = p * r + 0.5f;
    return float_of((float_bits(shifted) + 127u) << 23) * (1.0f + (r + r * r * p));
}

// Of x within -100 .. 100. x = n pi / 2 + r; the polynomials are (sin r - r) / r^3 and
// (cos r - 1 + r^2 / 2) / r^4 for |r| <= pi / 4, fitted to 4e-9.
inline void sine_and_cosine(float x, float& sine, float& cosine) {
    const float shifted = x * 0.636619772f + ROUNDING, n = shifted - ROUNDING;
    const float r = (x - n * 1.57079315f) - n * 3.17493943e-6f, square = r * r;
    const float s = r + r * square * (-0.166666546f + square * (0.00833215504f - square * 0.000195140838f));
    const float c = 1.0f - 0.5f * square + square * square * (0.0416666463f + square * (square * 2.44348442e-05f - 0.00138873371f));
    const std::uint32_t quarters = float_bits(shifted), swap = 0u - (quarters & 1u);
    const std::uint32_t sin_bits = float_bits(s), cos_bits = float_bits(c);
    sine = float_of(((sin_bits & ~swap) | (cos_bits & swap)) ^ (quarters & 2u) << 30);
    cosine = float_of(((cos_bits & ~swap) | (sin_bits & swap)) ^ ((quarters + 1u) & 2u) << 30);
}

}  // namespace earshot
