// The layers of SEANet (codec/model/seanet.py) that are more than a convolution. Each takes one
// frame of many streams at once.
#pragma once

#include <string>
#include <vector>

#include "convolution.h"
#include "shape.h"

namespace earshot {

// ELU, dilated convolution to fewer channels, ELU, 1x1 convolution, and a 1x1 convolution of the
// input as shortcut. The two 1x1 convolutions are one product.
class ResidualUnit {
  public:
    ResidualUnit(Plan& plan, const std::string& name, Size channels, Size kernel, Size dilation, Size compress, Size time);

    Inlet open(const Step& step, Size time) const;
    void run(const Step& step, const Inlet& inlet, Size time, Target plain, Target elu) const;

  private:
    Convolution narrow_;
    Matrix widen_;
};

// A sequence of residual units at one rate. `last` takes the result, through ELU.
class ResidualUnits {
  public:
    ResidualUnits(Plan& plan, const std::string& name, Size index, Size channels, Size time, const Shape& shape);

    Size width() const { return width_; }
    Inlet open(const Step& step, Size time) const { return units_.front().open(step, time); }
    void run(const Step& step, Inlet inlet, Size time, Target last) const;

  private:
    Size width_;
    std::vector<ResidualUnit> units_;
};

// One time step of a stacked LSTM with a skip connection over it. Input and recurrent weights are
// one product.
class ResidualLstm {
  public:
    ResidualLstm(Plan& plan, const std::string& name, Size width, Size layers);

    // Computes ELU(x + lstm(x)) of x [streams, width].
    void run(const Step& step, const float* x, Target elu) const;

  private:
    Size width_;
    struct Layer {
        Matrix matrix;
        Size h, c;
    };
    std::vector<Layer> layers_;
};

// The decoder's last convolution, to one channel, as dot products.
class LastConvolution {
  public:
    LastConvolution(Plan& plan, const std::string& name, Size in, Size kernel);

    Window open(const Step& step, Size time) const;
    // Writes pcm [streams, time].
    void run(const Step& step, const Window& window, Size time, float* pcm) const;

  private:
    Size in_, context_, state_;
    Floats weights_;
    float bias_;
};

}  // namespace earshot
