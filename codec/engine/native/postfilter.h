// The decoder's last step, where a model has one (codec/model/postfilter.py): each frame goes through
// a filter of minimum phase that its own spectrum makes.
#pragma once

#include <array>
#include <complex>
#include <vector>

#include "plan.h"
#include "shape.h"

namespace earshot {

// The Fourier transform of WINDOW real numbers, as one of half as many complex ones.
class RealTransform {
  public:
    static constexpr Size WINDOW = 1024, HALF = WINDOW / 2, BINS = HALF + 1;
    using Complex = std::complex<float>;

    RealTransform();
    // x [WINDOW] to spectrum [BINS], and back. `spectrum` of the second is spoilt.
    void forward(const float* x, Complex* spectrum) const;
    void backward(Complex* spectrum, float* x) const;

  private:
    void transform(Complex* x) const;

    std::vector<Complex> turns_;  // exp(-2 pi i k / WINDOW), k < HALF
    std::vector<std::uint16_t> order_;
};

class Postfilter {
  public:
    static constexpr Size TAPS = 512;

    // Refuses frames and exponents that it is not for.
    Postfilter(Plan& plan, const Shape& shape);
    // Filters the frame pcm [hop] of the one stream of `step`.
    void run(const Step& step, float* pcm) const;

  private:
    static constexpr Size WINDOW = RealTransform::WINDOW, BINS = RealTransform::BINS;
    void make_filter(const float* samples, float* change) const;

    Size hop_, kept_, samples_, change_;  // the last two: places in the state
    float fine_, coarse_;
    RealTransform transform_;
    std::vector<float> window_;
};

}  // namespace earshot
