#include "postfilter.h"

#include <algorithm>
#include <cmath>

#include "refuse.h"

namespace earshot {

namespace {

constexpr double PI = 3.14159265358979323846;
constexpr Size FALL = 256, FINE = 4, COARSE = 60;
constexpr float LOUDEST = 1.5f, FAINTEST = 1e-3f, FLOOR = 1e-7f;

// Means of powers over `bins` on each side, from their running sums, as far as there are any.
float mean_around(const double* sums, Size count, Size middle, Size bins) {
    const Size first = std::max<Size>(middle - bins, 0), end = std::min(middle + bins + 1, count);
    return static_cast<float>((sums[end] - sums[first]) / static_cast<double>(end - first));
}

// y[n] += sum of taps[m] x[n - m]. Four taps at once, so that y is read and written less often.
void convolve(const float* x, const float* taps, Size count, float* y, Size length) {
    for (Size m = 0; m < count; m += 4) {
        const float a = taps[m], b = taps[m + 1], c = taps[m + 2], d = taps[m + 3];
        const float* from = x - m;
        for (Size n = 0; n < length; n++) y[n] += (a * from[n] + b * from[n - 1]) + (c * from[n - 2] + d * from[n - 3]);
    }
}

}  // namespace

RealTransform::RealTransform() : turns_(HALF), order_(HALF) {
    for (Size k = 0; k < HALF; k++) {
        const double angle = -2 * PI * static_cast<double>(k) / WINDOW;
        turns_[static_cast<std::size_t>(k)] = {static_cast<float>(std::cos(angle)), static_cast<float>(std::sin(angle))};
    }
    for (Size k = 0; k < HALF; k++) {
        Size turned = 0;
        for (Size bit = 1; bit < HALF; bit *= 2) turned = 2 * turned + (k & bit ? 1 : 0);
        order_[static_cast<std::size_t>(k)] = static_cast<std::uint16_t>(turned);
    }
}

// x [HALF], in the order of `order_`, in place.
void RealTransform::transform(Complex* x) const {
    for (Size half = 1; half < HALF; half *= 2) {
        const Size stride = HALF / half;
        for (Size begin = 0; begin < HALF; begin += 2 * half)
            for (Size k = 0; k < half; k++) {
                const Complex turn = turns_[static_cast<std::size_t>(k * stride)];
                Complex &a = x[begin + k], &b = x[begin + k + half];
                const Complex turned{b.real() * turn.real() - b.imag() * turn.imag(),
                                     b.real() * turn.imag() + b.imag() * turn.real()};
                b = a - turned;
                a += turned;
            }
    }
}

void RealTransform::forward(const float* x, Complex* spectrum) const {
    std::array<Complex, HALF> z;
    for (Size k = 0; k < HALF; k++) {
        const Size from = 2 * order_[static_cast<std::size_t>(k)];
        z[static_cast<std::size_t>(k)] = {x[from], x[from + 1]};
    }
    transform(z.data());
    for (Size k = 0; k <= HALF; k++) {
        const Complex a = z[static_cast<std::size_t>(k % HALF)], b = z[static_cast<std::size_t>((HALF - k) % HALF)];
        const float even_re = 0.5f * (a.real() + b.real()), even_im = 0.5f * (a.imag() - b.imag());
        const float odd_re = 0.5f * (a.imag() + b.imag()), odd_im = -0.5f * (a.real() - b.real());
        const Complex turn = k < HALF ? turns_[static_cast<std::size_t>(k)] : Complex{-1.0f, 0.0f};
        spectrum[k] = {even_re + odd_re * turn.real() - odd_im * turn.imag(),
                       even_im + odd_re * turn.imag() + odd_im * turn.real()};
    }
}

// By the forward one: the transform of a conjugate is the conjugate of the inverse, times its length.
void RealTransform::backward(Complex* spectrum, float* x) const {
    std::array<Complex, HALF> z;
    for (Size k = 0; k < HALF; k++) {
        const Complex a = spectrum[k], b = std::conj(spectrum[HALF - k]), turn = turns_[static_cast<std::size_t>(k)];
        const Complex even = a + b, apart = a - b;
        const Complex odd{apart.real() * turn.real() + apart.imag() * turn.imag(),
                          apart.imag() * turn.real() - apart.real() * turn.imag()};
        z[static_cast<std::size_t>(k)] = {even.real() - odd.imag(), -(even.imag() + odd.real())};
    }
    std::array<Complex, HALF> ordered;
    for (Size k = 0; k < HALF; k++)
        ordered[static_cast<std::size_t>(k)] = z[order_[static_cast<std::size_t>(k)]];
    transform(ordered.data());
    constexpr float scale = 1.0f / WINDOW;
    for (Size k = 0; k < HALF; k++) {
        x[2 * k] = ordered[static_cast<std::size_t>(k)].real() * scale;
        x[2 * k + 1] = -ordered[static_cast<std::size_t>(k)].imag() * scale;
    }
}

Postfilter::Postfilter(Plan& plan, const Shape& shape)
    : hop_(shape.hop()), kept_(WINDOW - hop_), samples_(0), change_(0), fine_(shape.fine), coarse_(shape.coarse), window_(WINDOW) {
    if (hop_ > WINDOW - TAPS || !(fine_ >= 0) || !(coarse_ >= 0) || fine_ > 2 || coarse_ > 2)
        refuse("the postfilter of the network is not of this family");
    samples_ = plan.keep(kept_);
    change_ = plan.keep(TAPS);
    for (Size n = 0; n < WINDOW; n++) {
        const bool rises = n < WINDOW - FALL;
        const double length = rises ? WINDOW - FALL : FALL, at = (rises ? n : n - (WINDOW - FALL)) + 0.5;
        const double side = rises ? std::sin(PI / 2 * at / length) : std::cos(PI / 2 * at / length);
        window_[static_cast<std::size_t>(n)] = static_cast<float>(side * side);
    }
}

// Writes what the filter for the end of samples [WINDOW] differs from none by.
void Postfilter::make_filter(const float* samples, float* change) const {
    std::array<float, WINDOW> x;
    std::array<RealTransform::Complex, BINS> spectrum;
    std::array<float, BINS> power, gain;
    std::array<double, BINS + 1> sums;
    for (std::size_t n = 0; n < WINDOW; n++) x[n] = samples[n] * window_[n];
    transform_.forward(x.data(), spectrum.data());
    sums[0] = 0;
    for (std::size_t k = 0; k < BINS; k++) {
        power[k] = std::norm(spectrum[k]) + FLOOR;
        sums[k + 1] = sums[k] + static_cast<double>(power[k]);
    }
    double louder = 0;
    const float most = std::log(LOUDEST), least = std::log(FAINTEST);
    for (std::size_t k = 0; k < BINS; k++) {
        const Size middle = static_cast<Size>(k);
        const float near = mean_around(sums.data(), BINS, middle, FINE), far = mean_around(sums.data(), BINS, middle, COARSE);
        const float own = 0.5f * (fine_ * std::log(power[k] / near) + coarse_ * std::log(near / far));
        gain[k] = std::min(std::max(own, least), most);
        louder += static_cast<double>(power[k] * std::exp(2 * gain[k]));
    }
    const float level = static_cast<float>(0.5 * std::log(louder / sums[BINS]));
    for (std::size_t k = 0; k < BINS; k++) spectrum[k] = gain[k] - level;
    // Twice its causal half: the logarithm of a spectrum of minimum phase with the same magnitudes.
    transform_.backward(spectrum.data(), x.data());
    for (std::size_t n = 1; n < WINDOW / 2; n++) x[n] *= 2;
    std::fill(x.begin() + WINDOW / 2 + 1, x.end(), 0.0f);
    transform_.forward(x.data(), spectrum.data());
    for (RealTransform::Complex& bin : spectrum) {
        const float size = std::exp(bin.real());
        bin = {size * std::cos(bin.imag()), size * std::sin(bin.imag())};
    }
    transform_.backward(spectrum.data(), x.data());
    std::copy_n(x.data(), TAPS, change);
    change[0] -= 1;
}

void Postfilter::run(const Step& step, float* pcm) const {
    float *kept = step.states[0] + samples_, *before = step.states[0] + change_;
    const Scratch::Mark mark = step.scratch.mark();
    float* joined = step.scratch.take(WINDOW);
    float* now = step.scratch.take(TAPS);
    float* filtered = step.scratch.take(2 * hop_);
    std::memcpy(joined, kept, bytes(kept_));
    std::memcpy(joined + kept_, pcm, bytes(hop_));
    make_filter(joined, now);
    std::fill_n(filtered, 2 * hop_, 0.0f);
    convolve(joined + kept_, before, TAPS, filtered, hop_);
    convolve(joined + kept_, now, TAPS, filtered + hop_, hop_);
    for (Size n = 0; n < hop_; n++) {
        const float share = static_cast<float>(n + 1) / static_cast<float>(hop_);
        pcm[n] += filtered[n] + (filtered[hop_ + n] - filtered[n]) * share;
    }
    std::memcpy(kept, joined + hop_, bytes(kept_));
    std::memcpy(before, now, bytes(TAPS));
    step.scratch.back_to(mark);
}

}  // namespace earshot
