// The layers of SEANet (codec/seanet.py), each over one frame of many streams at once. Activations are [stream, time,
// channels], so that a causal convolution is a product whose rows are overlapping windows, read where they lie.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "pack.h"
#include "shape.h"

namespace earshot {

// The tensors of a model by name, float32 and dense; they are only read while a network is built.
struct Tensor {
    const float* data;
    std::vector<Size> shape;
};

class Tensors {
  public:
    void add(const std::string& name, Tensor tensor) { tensors_[name] = std::move(tensor); }
    // Throws std::invalid_argument if it is missing or of another shape.
    const float* get(const std::string& name, const std::vector<Size>& shape) const;

  private:
    std::map<std::string, Tensor> tensors_;
};

// How often a layer's weights are used in a frame: for many samples of a stream, or for one. What is used once waits for its
// weights more than it computes. What works on samples of PCM, which lie without padding, stays in fp32.
enum class Use { pcm, often, once };

// What a network is built with: where its weights come from, its kernels, and the state it has asked for so far.
struct Plan {
    const Tensors& tensors;
    const Kernels& kernels;
    Format precision = Format::fp32;  // the lowest that a layer may use
    Size state = 0;     // floats
    Size weights = 0;   // words

    // Bytes only where a row is quantised once for many columns; the other layers in what is fastest.
    Format format(Use use) const {
        if (use == Use::pcm) return Format::fp32;
        if (precision != Format::int8 || use == Use::once) return precision;
        return kernels.bf16 ? Format::bf16 : Format::fp32;
    }

    Size keep(Size size) {
        const Size offset = state;
        state += padded(size);
        return offset;
    }
};

// What a step works with: the states of the streams that step, and memory.
struct Step {
    const Kernels& kernels;
    Scratch& scratch;
    float* const* states;
    Size streams;

    // The same for streams [from, from + count).
    Step part(Size from, Size count) const { return {kernels, scratch, states + from, count}; }
};

// The input of a convolution for one frame: for each stream the samples that were kept, then room for the new ones.
struct Window {
    float* data;
    Size stream, kept;  // floats from stream to stream, and of what was kept
    Target fresh(Size width) const { return {data + kept, stream, width}; }
    Window from(Size first) const { return {data + first * stream, stream, kept}; }
};

// Where the next layer wants its input: plain, and as a window on ELU(x). Either may be absent.
struct Inlet {
    Target plain;
    Window elu;
    Inlet from(Size first) const {
        Target moved = plain;
        if (moved.data) moved.data += first * moved.stream;
        return {moved, elu.from(first)};
    }
};

// A causal convolution, also with strides and dilation.
class Convolution {
  public:
    Convolution(Plan& plan, const std::string& name, Size in, Size out, Size kernel, Size stride, Size dilation,
                Use use = Use::often);

    Size in() const { return in_; }
    Size out() const { return matrix_.n; }

    // A window with what the streams kept, and room for `time` samples.
    Window open(const Step& step, Size time) const;
    // [time / stride] outputs of each stream; the end of the window is kept in the states.
    void run(const Step& step, const Window& window, Size time, Target plain, Target elu) const;

  private:
    Size in_, kernel_, stride_, dilation_, context_, state_;
    Matrix matrix_;
};

// ELU, dilated convolution to fewer channels, ELU, 1x1 convolution; a 1x1 convolution of the input as shortcut. The last two
// are one product.
class ResidualUnit {
  public:
    ResidualUnit(Plan& plan, const std::string& name, Size channels, Size kernel, Size dilation, Size compress);

    Inlet open(const Step& step, Size time) const;
    void run(const Step& step, const Inlet& inlet, Size time, Target plain, Target elu) const;

  private:
    Convolution narrow_;
    Matrix widen_;
};

// A row of residual units at one rate. `last` is where the result goes, through ELU.
class ResidualUnits {
  public:
    ResidualUnits(Plan& plan, const std::string& name, Size index, Size channels, const Shape& shape);

    Size width() const { return width_; }
    Inlet open(const Step& step, Size time) const { return units_.front().open(step, time); }
    void run(const Step& step, Inlet inlet, Size time, Target last) const;

  private:
    Size width_;
    std::vector<ResidualUnit> units_;
};

// A transposed convolution whose kernel is twice its stride: every output depends on two neighbouring inputs.
class Upsampling {
  public:
    Upsampling(Plan& plan, const std::string& name, Size in, Size out, Size stride, Use use);

    Window open(const Step& step, Size time) const;
    // [time * stride] outputs of each stream.
    void run(const Step& step, const Window& window, Size time, Target plain, Target elu) const;

  private:
    Size in_, stride_, out_, state_;
    Matrix matrix_;
};

// Stacked LSTM with a skip connection over it, one time step: input and recurrent weights are one product.
class ResidualLstm {
  public:
    ResidualLstm(Plan& plan, const std::string& name, Size width, Size layers);

    // ELU(x + lstm(x)) of x [streams, width].
    void run(const Step& step, const float* x, Target elu) const;

  private:
    Size width_;
    struct Layer {
        Matrix matrix;
        Size h, c;
    };
    std::vector<Layer> layers_;
};

// The decoder's last convolution, to one channel: a row of dot products.
class LastConvolution {
  public:
    LastConvolution(Plan& plan, const std::string& name, Size in, Size kernel);

    Window open(const Step& step, Size time) const;
    // pcm [streams, time]
    void run(const Step& step, const Window& window, Size time, float* pcm) const;

  private:
    Size in_, context_, state_;
    Floats weights_;
    float bias_;
};

}  // namespace earshot
