#include "postfilter.h"

#include <algorithm>
#include <cmath>

#include "elementary.h"
#include "refuse.h"

namespace earshot {

namespace {

constexpr Size FALL = 256, FINE = 4, COARSE = 60;
constexpr float LOUDEST = 1.5f, FAINTEST = 1e-3f, FLOOR = 1e-7f;

// Means of powers over `bins` on each side, from their running sums, as far as there are any.
float mean_around(const double* sums, Size count, Size middle, Size bins) {
    const Size first = std::max<Size>(middle - bins, 0), end = std::min(middle + bins + 1, count);
    return static_cast<float>((sums[end] - sums[first]) / static_cast<double>(end - first));
}

}  // namespace

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
    RealTransform::Spectrum spectrum;
    std::array<float, BINS> power, near, far, gain;
    std::array<double, BINS + 1> sums;
    for (std::size_t n = 0; n < WINDOW; n++) x[n] = samples[n] * window_[n];
    transform_.forward(x.data(), spectrum);
    for (std::size_t k = 0; k < BINS; k++)
        power[k] = spectrum.re[k] * spectrum.re[k] + spectrum.im[k] * spectrum.im[k] + FLOOR;
    sums[0] = 0;
    for (std::size_t k = 0; k < BINS; k++) sums[k + 1] = sums[k] + static_cast<double>(power[k]);
    for (std::size_t k = 0; k < BINS; k++) {
        near[k] = mean_around(sums.data(), BINS, static_cast<Size>(k), FINE);
        far[k] = mean_around(sums.data(), BINS, static_cast<Size>(k), COARSE);
    }
    const float most = std::log(LOUDEST), least = std::log(FAINTEST);
    for (std::size_t k = 0; k < BINS; k++) {
        const float own = 0.5f * (fine_ * logarithm(power[k] / near[k]) + coarse_ * logarithm(near[k] / far[k]));
        gain[k] = std::min(std::max(own, least), most);
        far[k] = power[k] * exponential(2 * gain[k]);
    }
    double louder = 0;
    for (float one : far) louder += static_cast<double>(one);
    const float level = static_cast<float>(0.5 * std::log(louder / sums[BINS]));
    for (std::size_t k = 0; k < BINS; k++) spectrum.re[k] = gain[k] - level;
    spectrum.im.fill(0.0f);
    // Twice its causal half: the logarithm of a spectrum of minimum phase with the same magnitudes.
    transform_.backward(spectrum, x.data());
    for (std::size_t n = 1; n < WINDOW / 2; n++) x[n] *= 2;
    std::fill(x.begin() + WINDOW / 2 + 1, x.end(), 0.0f);
    transform_.forward(x.data(), spectrum);
    for (std::size_t k = 0; k < BINS; k++) {
        const float size = exponential(spectrum.re[k]);
        float sine, cosine;
        sine_and_cosine(spectrum.im[k], sine, cosine);
        spectrum.re[k] = size * cosine;
        spectrum.im[k] = size * sine;
    }
    transform_.backward(spectrum, x.data());
    std::copy_n(x.data(), TAPS, change);
    change[0] -= 1;
}

// Writes how a filter of TAPS taps changes the end of samples [WINDOW], whose spectrum is given. The
// first TAPS - 1 of the result are none.
void Postfilter::apply(const RealTransform::Spectrum& samples, const float* taps, float* filtered) const {
    std::array<float, WINDOW> padded{};
    std::copy_n(taps, TAPS, padded.data());
    RealTransform::Spectrum product;
    transform_.forward(padded.data(), product);
    for (std::size_t k = 0; k < BINS; k++) {
        const float re = product.re[k], im = product.im[k];
        product.re[k] = re * samples.re[k] - im * samples.im[k];
        product.im[k] = re * samples.im[k] + im * samples.re[k];
    }
    transform_.backward(product, filtered);
}

void Postfilter::run(const Step& step, float* pcm) const {
    float *kept = step.states[0] + samples_, *before = step.states[0] + change_;
    std::array<float, WINDOW> joined, was, is;
    std::array<float, TAPS> now;
    std::memcpy(joined.data(), kept, bytes(kept_));
    std::memcpy(joined.data() + kept_, pcm, bytes(hop_));
    make_filter(joined.data(), now.data());
    RealTransform::Spectrum samples;
    transform_.forward(joined.data(), samples);
    apply(samples, before, was.data());
    apply(samples, now.data(), is.data());
    for (Size n = 0; n < hop_; n++) {
        const float share = static_cast<float>(n + 1) / static_cast<float>(hop_);
        const float old = was[static_cast<std::size_t>(kept_ + n)];
        pcm[n] += old + (is[static_cast<std::size_t>(kept_ + n)] - old) * share;
    }
    std::memcpy(kept, joined.data() + hop_, bytes(kept_));
    std::memcpy(before, now.data(), bytes(TAPS));
}

}  // namespace earshot
