#include "transform.h"

#include <cmath>

namespace earshot {

namespace {

constexpr Size HALF = RealTransform::HALF;

// One step of Stockham's transform, of radix 4: x [4, HALF / 4] to y. STRIDE values that lie side by
// side are turned alike.
template <Size STRIDE, class Turns>
void fourfold(const float* __restrict x_re, const float* __restrict x_im, float* __restrict y_re, float* __restrict y_im,
              const Turns& turns_re, const Turns& turns_im) {
    constexpr Size QUARTER = HALF / 4;
    const auto put = [&](Size from, Size to, Size turn) {
        const float a_re = x_re[from], a_im = x_im[from], b_re = x_re[from + QUARTER], b_im = x_im[from + QUARTER];
        const float c_re = x_re[from + 2 * QUARTER], c_im = x_im[from + 2 * QUARTER];
        const float d_re = x_re[from + 3 * QUARTER], d_im = x_im[from + 3 * QUARTER];
        const float ac_re = a_re + c_re, ac_im = a_im + c_im, bd_re = b_re + d_re, bd_im = b_im + d_im;
        const float a_c_re = a_re - c_re, a_c_im = a_im - c_im, b_d_re = b_re - d_re, b_d_im = b_im - d_im;
        const float one_re = a_c_re + b_d_im, one_im = a_c_im - b_d_re, two_re = ac_re - bd_re, two_im = ac_im - bd_im;
        const float three_re = a_c_re - b_d_im, three_im = a_c_im + b_d_re;
        y_re[to] = ac_re + bd_re;
        y_im[to] = ac_im + bd_im;
        y_re[to + STRIDE] = one_re * turns_re[0][turn] - one_im * turns_im[0][turn];
        y_im[to + STRIDE] = one_re * turns_im[0][turn] + one_im * turns_re[0][turn];
        y_re[to + 2 * STRIDE] = two_re * turns_re[1][turn] - two_im * turns_im[1][turn];
        y_im[to + 2 * STRIDE] = two_re * turns_im[1][turn] + two_im * turns_re[1][turn];
        y_re[to + 3 * STRIDE] = three_re * turns_re[2][turn] - three_im * turns_im[2][turn];
        y_im[to + 3 * STRIDE] = three_re * turns_im[2][turn] + three_im * turns_re[2][turn];
    };
    if constexpr (STRIDE == 1)
        for (Size k = 0; k < QUARTER; k++) put(k, 4 * k, k);
    else
        for (Size k = 0; k < QUARTER; k += STRIDE)
            for (Size n = 0; n < STRIDE; n++) put(k + n, 4 * k + n, k);
}

}  // namespace

RealTransform::RealTransform() {
    for (Size k = 0; k < BINS; k++) {
        const double angle = -2 * PI * static_cast<double>(k) / WINDOW;
        turns_.re[static_cast<std::size_t>(k)] = static_cast<float>(std::cos(angle));
        turns_.im[static_cast<std::size_t>(k)] = static_cast<float>(std::sin(angle));
    }
    for (Size m = 0; m < 3; m++)
        for (Size k = 0; k < QUARTER; k++) {
            const double angle = -2 * PI * static_cast<double>((m + 1) * k) / HALF;
            turns_re_[static_cast<std::size_t>(m)][static_cast<std::size_t>(k)] = static_cast<float>(std::cos(angle));
            turns_im_[static_cast<std::size_t>(m)][static_cast<std::size_t>(k)] = static_cast<float>(std::sin(angle));
        }
}

// re, im [HALF], in place.
void RealTransform::transform(float* __restrict re, float* __restrict im) const {
    float other_re[HALF], other_im[HALF];
    fourfold<1>(re, im, other_re, other_im, turns_re_, turns_im_);
    fourfold<4>(other_re, other_im, re, im, turns_re_, turns_im_);
    fourfold<16>(re, im, other_re, other_im, turns_re_, turns_im_);
    fourfold<64>(other_re, other_im, re, im, turns_re_, turns_im_);
    for (Size k = 0; k < HALF / 2; k++) {
        const float a_re = re[k], a_im = im[k], b_re = re[k + HALF / 2], b_im = im[k + HALF / 2];
        re[k] = a_re + b_re;
        im[k] = a_im + b_im;
        re[k + HALF / 2] = a_re - b_re;
        im[k + HALF / 2] = a_im - b_im;
    }
}

void RealTransform::forward(const float* __restrict x, Spectrum& spectrum) const {
    float re[BINS], im[BINS];
    for (Size k = 0; k < HALF; k++) {
        re[k] = x[2 * k];
        im[k] = x[2 * k + 1];
    }
    transform(re, im);
    re[HALF] = re[0];
    im[HALF] = im[0];
    const float *turn_re = turns_.re.data(), *turn_im = turns_.im.data();
    float *__restrict y_re = spectrum.re.data(), *__restrict y_im = spectrum.im.data();
    for (Size k = 0; k < BINS; k++) {
        const float even_re = 0.5f * (re[k] + re[HALF - k]), even_im = 0.5f * (im[k] - im[HALF - k]);
        const float odd_re = 0.5f * (im[k] + im[HALF - k]), odd_im = 0.5f * (re[HALF - k] - re[k]);
        y_re[k] = even_re + odd_re * turn_re[k] - odd_im * turn_im[k];
        y_im[k] = even_im + odd_re * turn_im[k] + odd_im * turn_re[k];
    }
}

// By the forward one: the transform of a conjugate is the conjugate of the inverse, times its length.
void RealTransform::backward(const Spectrum& spectrum, float* __restrict x) const {
    float re[HALF], im[HALF];
    const float *turn_re = turns_.re.data(), *turn_im = turns_.im.data();
    const float *x_re = spectrum.re.data(), *x_im = spectrum.im.data();
    for (Size k = 0; k < HALF; k++) {
        const float even_re = x_re[k] + x_re[HALF - k], even_im = x_im[k] - x_im[HALF - k];
        const float apart_re = x_re[k] - x_re[HALF - k], apart_im = x_im[k] + x_im[HALF - k];
        const float odd_re = apart_re * turn_re[k] + apart_im * turn_im[k];
        const float odd_im = apart_im * turn_re[k] - apart_re * turn_im[k];
        re[k] = even_re - odd_im;
        im[k] = -(even_im + odd_re);
    }
    transform(re, im);
    constexpr float scale = 1.0f / WINDOW;
    for (Size k = 0; k < HALF; k++) {
        x[2 * k] = re[k] * scale;
        x[2 * k + 1] = -im[k] * scale;
    }
}

}  // namespace earshot
