#include "layers.h"

#include <stdexcept>

namespace earshot {

namespace {

std::string text(const std::vector<Size>& shape) {
    std::string sizes;
    for (Size size : shape) sizes += (sizes.empty() ? "" : ", ") + std::to_string(size);
    return "[" + sizes + "]";
}

// weight(k, n), which is asked for all k and n; columns that are added as padding are zero. `cuts`: as for `pack`.
template <class Weight>
Matrix matrix_of(Plan& plan, Use use, const std::vector<Size>& cuts, Size n, Weight weight) {
    Size k = 0;
    for (Size cut : cuts) k += cut;
    Floats all(k * padded(n));
    for (Size row = 0; row < k; row++)
        for (Size column = 0; column < n; column++) all.data()[row * padded(n) + column] = weight(row, column);
    Matrix matrix = pack(plan.kernels, plan.format(use), all, cuts, padded(n), use == Use::once);
    plan.weights += matrix.weights.size();
    return matrix;
}

void multiply(const Step& step, const Matrix& matrix, const std::vector<Rows>& rows, Size count, Target plain, Target elu) {
    multiply(step.kernels, step.scratch, matrix, rows, step.streams, count, plain, elu);
}

std::size_t bytes(Size floats) { return static_cast<std::size_t>(floats) * sizeof(float); }

Window open_window(const Step& step, Size state, Size kept, Size fresh) {
    const Window window{step.scratch.take(step.streams * (kept + fresh)), kept + fresh, kept};
    for (Size s = 0; s < step.streams; s++) std::memcpy(window.data + s * window.stream, step.states[s] + state, bytes(kept));
    return window;
}

void keep_end(const Step& step, Size state, const Window& window, Size fresh) {
    for (Size s = 0; s < step.streams; s++)
        std::memcpy(step.states[s] + state, window.data + s * window.stream + fresh, bytes(window.kept));
}

}  // namespace

const float* Tensors::get(const std::string& name, const std::vector<Size>& shape) const {
    const auto found = tensors_.find(name);
    if (found == tensors_.end()) throw std::invalid_argument("the network has no tensor " + name);
    if (found->second.shape != shape)
        throw std::invalid_argument(name + " is " + text(found->second.shape) + ", not " + text(shape));
    return found->second.data;
}

Convolution::Convolution(Plan& plan, const std::string& name, Size in, Size out, Size kernel, Size stride, Size dilation,
                         Use use)
    : in_(use == Use::pcm ? in : padded(in)),
      kernel_(kernel),
      stride_(stride),
      dilation_(dilation),
      context_((kernel - 1) * dilation + 1 - stride),
      state_(plan.keep(context_ * in_)) {
    const float* weight = plan.tensors.get(name + ".weight", {out, in, kernel});
    const float* bias = plan.tensors.get(name + ".bias", {out});
    std::vector<Size> cuts{kernel * in_};
    if (dilation != 1) cuts.assign(static_cast<std::size_t>(kernel), in_);
    matrix_ = matrix_of(plan, use, cuts, out, [&](Size k, Size n) {
        const Size tap = k / in_, channel = k % in_;
        return channel < in ? weight[(n * in + channel) * kernel + tap] : 0.0f;
    });
    std::memcpy(matrix_.bias.data(), bias, bytes(out));
}

Window Convolution::open(const Step& step, Size time) const { return open_window(step, state_, context_ * in_, time * in_); }

void Convolution::run(const Step& step, const Window& window, Size time, Target plain, Target elu) const {
    std::vector<Rows> rows;
    if (dilation_ == 1)
        rows.push_back({window.data, window.stream, 0, stride_ * in_, kernel_ * in_});
    else
        for (Size tap = 0; tap < kernel_; tap++)
            rows.push_back({window.data, window.stream, tap * dilation_ * in_, stride_ * in_, in_});
    multiply(step, matrix_, rows, time / stride_, plain, elu);
    keep_end(step, state_, window, time * in_);
}

ResidualUnit::ResidualUnit(Plan& plan, const std::string& name, Size channels, Size kernel, Size dilation, Size compress)
    : narrow_(plan, name + ".narrow", channels, channels / compress, kernel, 1, dilation) {
    const Size hidden = channels / compress;
    const float* widen = plan.tensors.get(name + ".widen.weight", {channels, hidden, 1});
    const float* shortcut = plan.tensors.get(name + ".shortcut.weight", {channels, channels, 1});
    const float* widen_bias = plan.tensors.get(name + ".widen.bias", {channels});
    const float* shortcut_bias = plan.tensors.get(name + ".shortcut.bias", {channels});
    widen_ = matrix_of(plan, Use::often, {narrow_.out(), padded(channels)}, channels, [&](Size k, Size n) {
        if (k < narrow_.out()) return k < hidden ? widen[n * hidden + k] : 0.0f;
        k -= narrow_.out();
        return k < channels ? shortcut[n * channels + k] : 0.0f;
    });
    for (Size n = 0; n < channels; n++) widen_.bias.data()[n] = widen_bias[n] + shortcut_bias[n];
}

Inlet ResidualUnit::open(const Step& step, Size time) const {
    const Size width = narrow_.in();
    return {{step.scratch.take(step.streams * time * width), time * width, width}, narrow_.open(step, time)};
}

void ResidualUnit::run(const Step& step, const Inlet& inlet, Size time, Target plain, Target elu) const {
    const Size hidden = narrow_.out(), width = narrow_.in();
    float* narrow = step.scratch.take(step.streams * time * hidden);
    narrow_.run(step, inlet.elu, time, {}, {narrow, time * hidden, hidden});
    const Rows inner{narrow, time * hidden, 0, hidden, hidden};
    const Rows shortcut{inlet.plain.data, inlet.plain.stream, 0, width, width};
    multiply(step, widen_, {inner, shortcut}, time, plain, elu);
}

ResidualUnits::ResidualUnits(Plan& plan, const std::string& name, Size index, Size channels, const Shape& shape)
    : width_(padded(channels)) {
    Size dilation = 1;
    for (Size unit = 0; unit < shape.n_residual_layers; unit++, dilation *= shape.dilation_base)
        units_.emplace_back(plan, name + std::to_string(index + unit), channels, shape.residual_kernel_size, dilation,
                            shape.compress);
}

void ResidualUnits::run(const Step& step, Inlet inlet, Size time, Target last) const {
    for (std::size_t unit = 0; unit + 1 < units_.size(); unit++) {
        const Inlet next = units_[unit + 1].open(step, time);
        units_[unit].run(step, inlet, time, next.plain, next.elu.fresh(width_));
        inlet = next;
    }
    units_.back().run(step, inlet, time, {}, last);
}

Upsampling::Upsampling(Plan& plan, const std::string& name, Size in, Size out, Size stride, Use use)
    : in_(padded(in)), stride_(stride), out_(padded(out)), state_(plan.keep(in_)) {
    const float* weight = plan.tensors.get(name + ".weight", {in, out, 2 * stride});
    const float* bias = plan.tensors.get(name + ".bias", {out});
    // Rows of x are [the input before, this input]; columns are the outputs that lie between this input and the next.
    matrix_ = matrix_of(plan, use, {2 * in_}, stride * out_, [&](Size k, Size n) {
        const Size tap = n / out_ + (k < in_ ? stride : 0), from = k % in_, to = n % out_;
        return from < in && to < out ? weight[(from * out + to) * 2 * stride + tap] : 0.0f;
    });
    for (Size t = 0; t < stride; t++) std::memcpy(matrix_.bias.data() + t * out_, bias, bytes(out));
}

Window Upsampling::open(const Step& step, Size time) const { return open_window(step, state_, in_, time * in_); }

void Upsampling::run(const Step& step, const Window& window, Size time, Target plain, Target elu) const {
    plain.row *= stride_;  // a row of the product is `stride` outputs, one after the other
    elu.row *= stride_;
    multiply(step, matrix_, {{window.data, window.stream, 0, in_, 2 * in_}}, time, plain, elu);
    keep_end(step, state_, window, time * in_);
}

ResidualLstm::ResidualLstm(Plan& plan, const std::string& name, Size width, Size layers) : width_(padded(width)) {
    for (Size layer = 0; layer < layers; layer++) {
        const std::string end = "_l" + std::to_string(layer);
        const float* input = plan.tensors.get(name + ".lstm.weight_ih" + end, {4 * width, width});
        const float* recurrent = plan.tensors.get(name + ".lstm.weight_hh" + end, {4 * width, width});
        const float* input_bias = plan.tensors.get(name + ".lstm.bias_ih" + end, {4 * width});
        const float* recurrent_bias = plan.tensors.get(name + ".lstm.bias_hh" + end, {4 * width});
        Matrix matrix = matrix_of(plan, Use::once, {width_, width_}, 4 * width_, [&](Size k, Size n) {
            const Size gate = n / width_, to = n % width_, from = k % width_;
            const float* weight = k < width_ ? input : recurrent;
            return from < width && to < width ? weight[(gate * width + to) * width + from] : 0.0f;
        });
        for (Size gate = 0; gate < 4; gate++)
            for (Size to = 0; to < width; to++)
                matrix.bias.data()[gate * width_ + to] = input_bias[gate * width + to] + recurrent_bias[gate * width + to];
        const Size h = plan.keep(width_), c = plan.keep(width_);
        layers_.push_back({std::move(matrix), h, c});
    }
}

void ResidualLstm::run(const Step& step, const float* x, Target elu) const {
    float* h = step.scratch.take(step.streams * width_);
    float* y = step.scratch.take(step.streams * width_);
    float* gates = step.scratch.take(step.streams * 4 * width_);
    const float* input = x;
    for (const Layer& layer : layers_) {
        for (Size s = 0; s < step.streams; s++) std::memcpy(h + s * width_, step.states[s] + layer.h, bytes(width_));
        const Rows fresh{input, width_, 0, 0, width_}, recurrent{h, width_, 0, 0, width_};
        multiply(step, layer.matrix, {fresh, recurrent}, 1, {gates, 4 * width_, 0}, {});
        for (Size s = 0; s < step.streams; s++) {
            float* state = step.states[s];
            step.kernels.lstm(gates + s * 4 * width_, state + layer.c, state + layer.h, width_);
            std::memcpy(y + s * width_, state + layer.h, bytes(width_));
        }
        input = y;
    }
    for (Size s = 0; s < step.streams; s++)
        step.kernels.add_elu(x + s * width_, y + s * width_, elu.data + s * elu.stream, width_);
}

LastConvolution::LastConvolution(Plan& plan, const std::string& name, Size in, Size kernel)
    : in_(padded(in)), context_(kernel - 1), state_(plan.keep(context_ * in_)), weights_(kernel * in_) {
    const float* weight = plan.tensors.get(name + ".weight", {1, in, kernel});
    bias_ = *plan.tensors.get(name + ".bias", {1});
    plan.weights += weights_.size();
    for (Size tap = 0; tap < kernel; tap++)
        for (Size channel = 0; channel < in; channel++) weights_.data()[tap * in_ + channel] = weight[channel * kernel + tap];
}

Window LastConvolution::open(const Step& step, Size time) const { return open_window(step, state_, context_ * in_, time * in_); }

void LastConvolution::run(const Step& step, const Window& window, Size time, float* pcm) const {
    for (Size s = 0; s < step.streams; s++)
        step.kernels.dot(window.data + s * window.stream, in_, weights_.data(), weights_.size(), bias_, pcm + s * time, time);
    keep_end(step, state_, window, time * in_);
}

}  // namespace earshot
