// The Fourier transform of WINDOW real numbers, as one of half as many complex ones. Real and
// imaginary parts lie apart, and the loops are plain, so that compilers make vectors of them.
#pragma once

#include <array>

#include "memory.h"

namespace earshot {

constexpr double PI = 3.14159265358979323846;

class RealTransform {
  public:
    static constexpr Size WINDOW = 1024, HALF = WINDOW / 2, BINS = HALF + 1;

    struct Spectrum {
        std::array<float, BINS> re, im;
    };

    RealTransform();
    // x [WINDOW] to its spectrum, and back.
    void forward(const float* x, Spectrum& spectrum) const;
    void backward(const Spectrum& spectrum, float* x) const;

  private:
    static constexpr Size QUARTER = HALF / 4;

    void transform(float* re, float* im) const;

    Spectrum turns_;  // exp(-2 pi i k / WINDOW)
    // exp(-2 pi i m k / HALF) with m = 1, 2, 3.
    std::array<std::array<float, QUARTER>, 3> turns_re_, turns_im_;
};

}  // namespace earshot
