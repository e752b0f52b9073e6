// The decoder's last step, where a model has one (codec/model/postfilter.py): each frame goes through
// a filter of minimum phase that its own spectrum makes.
#pragma once

#include <vector>

#include "plan.h"
#include "shape.h"
#include "transform.h"

namespace earshot {

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
    void apply(const RealTransform::Spectrum& samples, const float* taps, float* filtered) const;

    Size hop_, kept_, samples_, change_;  // the last two: places in the state
    float fine_, coarse_;
    RealTransform transform_;
    std::vector<float> window_;
};

}  // namespace earshot
