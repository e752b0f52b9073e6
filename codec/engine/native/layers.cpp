#include "layers.h"

namespace earshot {

ResidualUnit::ResidualUnit(Plan& plan, const std::string& name, Size channels, Size kernel, Size dilation, Size compress,
                           Size time)
    : narrow_(Convolution::causal(plan, name + ".narrow", channels, channels / compress, kernel, dilation, time)) {
    const Size hidden = channels / compress;
    const float* widen = plan.tensors.get(name + ".widen.weight", {channels, hidden, 1});
    const float* shortcut = plan.tensors.get(name + ".shortcut.weight", {channels, channels, 1});
    const float* widen_bias = plan.tensors.get(name + ".widen.bias", {channels});
    const float* shortcut_bias = plan.tensors.get(name + ".shortcut.bias", {channels});
    widen_ = plan.matrix(Use::often, {narrow_.out(), padded(channels)}, channels, [&](Size k, Size n) {
        if (k < narrow_.out()) return k < hidden ? widen[n * hidden + k] : 0.0f;
        k -= narrow_.out();
        return k < channels ? shortcut[n * channels + k] : 0.0f;
    });
    for (Size n = 0; n < channels; n++) widen_.bias.data()[n] = widen_bias[n] + shortcut_bias[n];
}

Inlet ResidualUnit::open(const Step& step, Size time) const {
    const Size width = narrow_.in();
    return {{step.scratch.take(step.streams * time * width), time * width, width}, narrow_.open(step)};
}

void ResidualUnit::run(const Step& step, const Inlet& inlet, Size time, Target plain, Target elu) const {
    const Size hidden = narrow_.out(), width = narrow_.in();
    float* narrow = step.scratch.take(step.streams * time * hidden);
    narrow_.run(step, inlet.elu, {}, {narrow, time * hidden, hidden});
    const Rows inner{narrow, time * hidden, 0, hidden, hidden};
    const Rows shortcut{inlet.plain.data, inlet.plain.stream, 0, width, width};
    step.multiply(widen_, {inner, shortcut}, time, plain, elu);
}

ResidualUnits::ResidualUnits(Plan& plan, const std::string& name, Size index, Size channels, Size time, const Shape& shape)
    : width_(padded(channels)) {
    Size dilation = 1;
    for (Size unit = 0; unit < shape.n_residual_layers; unit++, dilation *= shape.dilation_base)
        units_.emplace_back(plan, name + std::to_string(index + unit), channels, shape.residual_kernel_size, dilation,
                            shape.compress, time);
}

void ResidualUnits::run(const Step& step, Inlet inlet, Size time, Target last) const {
    for (std::size_t unit = 0; unit + 1 < units_.size(); unit++) {
        const Inlet next = units_[unit + 1].open(step, time);
        units_[unit].run(step, inlet, time, next.plain, next.elu.fresh(width_));
        inlet = next;
    }
    units_.back().run(step, inlet, time, {}, last);
}

ResidualLstm::ResidualLstm(Plan& plan, const std::string& name, Size width, Size layers) : width_(padded(width)) {
    for (Size layer = 0; layer < layers; layer++) {
        const std::string end = "_l" + std::to_string(layer);
        const float* input = plan.tensors.get(name + ".lstm.weight_ih" + end, {4 * width, width});
        const float* recurrent = plan.tensors.get(name + ".lstm.weight_hh" + end, {4 * width, width});
        const float* input_bias = plan.tensors.get(name + ".lstm.bias_ih" + end, {4 * width});
        const float* recurrent_bias = plan.tensors.get(name + ".lstm.bias_hh" + end, {4 * width});
        Matrix matrix = plan.matrix(Use::once, {width_, width_}, 4 * width_, [&](Size k, Size n) {
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
        step.multiply(layer.matrix, {fresh, recurrent}, 1, {gates, 4 * width_, 0}, {});
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

Window LastConvolution::open(const Step& step, Size time) const {
    return Window::open(step, state_, context_ * in_, time * in_);
}

void LastConvolution::run(const Step& step, const Window& window, Size time, float* pcm) const {
    for (Size s = 0; s < step.streams; s++)
        step.kernels.dot(window.data + s * window.stream, in_, weights_.data(), weights_.size(), bias_, pcm + s * time, time);
    window.keep_end(step, state_);
}

}  // namespace earshot
