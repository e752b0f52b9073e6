#include "convolution.h"

#include <algorithm>

namespace earshot {

template <class Weight>
Convolution::Convolution(Plan& plan, Use use, const Form& form, const float* bias, Size channels, Weight weight)
    : form_(form), state_(plan.keep(context())) {
    const Size n = form.outputs * form.out;
    const bool pairs = use == Use::often && plan.format(use) == Format::fp32 && form.taps == 2 && form.dilation == 1 &&
                       form.rows % 2 == 0;
    const auto tap = [&](Size i, Size k, Size to) {
        const Size channel = to % form.out;
        return channel < channels ? weight(i, k, to / form.out, channel) : 0.0f;
    };
    if (pairs) {
        const std::vector<Size> cuts{form.block};
        matrices_.push_back(plan.matrix(use, cuts, n, [&](Size k, Size to) { return tap(0, k, to) + tap(1, k, to); }));
        for (Size i : {0, 1}) matrices_.push_back(plan.matrix(use, cuts, n, [&](Size k, Size to) { return tap(i, k, to); }));
    } else {
        std::vector<Size> cuts{form.taps * form.block};
        if (form.dilation != 1) cuts.assign(static_cast<std::size_t>(form.taps), form.block);
        const auto all = [&](Size k, Size to) { return tap(k / form.block, k % form.block, to); };
        matrices_.push_back(plan.matrix(use, cuts, n, all));
    }
    for (Size t = 0; t < form.outputs; t++) std::copy_n(bias, channels, matrices_.front().bias.data() + t * form.out);
}

Convolution Convolution::causal(Plan& plan, const std::string& name, Size in, Size out, Size kernel, Size dilation, Size rows,
                                Use use) {
    const float* weight = plan.tensors.get(name + ".weight", {out, in, kernel});
    const Size width = use == Use::pcm ? in : padded(in);
    return {plan, use, {width, padded(out), width, kernel, dilation, rows, 1}, plan.tensors.get(name + ".bias", {out}), out,
            [=](Size tap, Size k, Size, Size to) { return k < in ? weight[(to * in + k) * kernel + tap] : 0.0f; }};
}

Convolution Convolution::strided(Plan& plan, const std::string& name, Size in, Size out, Size stride, Size rows) {
    const float* weight = plan.tensors.get(name + ".weight", {out, in, 2 * stride});
    const Size width = padded(in);
    return {plan, rows == 1 ? Use::once : Use::often, {width, padded(out), stride * width, 2, 1, rows, 1},
            plan.tensors.get(name + ".bias", {out}), out, [=](Size tap, Size k, Size, Size to) {
                const Size from = k % width, at = tap * stride + k / width;
                return from < in ? weight[(to * in + from) * 2 * stride + at] : 0.0f;
            }};
}

Convolution Convolution::transposed(Plan& plan, const std::string& name, Size in, Size out, Size stride, Size rows) {
    const float* weight = plan.tensors.get(name + ".weight", {in, out, 2 * stride});
    return {plan, rows == 1 ? Use::once : Use::often, {padded(in), padded(out), padded(in), 2, 1, rows, stride},
            plan.tensors.get(name + ".bias", {out}), out, [=](Size tap, Size k, Size output, Size to) {
                return k < in ? weight[(k * out + to) * 2 * stride + output + (1 - tap) * stride] : 0.0f;
            }};
}

void Convolution::run(const Step& step, const Window& window, Target plain, Target elu) const {
    plain.row *= form_.outputs;
    elu.row *= form_.outputs;
    if (matrices_.size() == 1)
        run_direct(step, window, plain, elu);
    else
        run_pairs(step, window, plain, elu);
    window.keep_end(step, state_);
}

void Convolution::run_direct(const Step& step, const Window& window, Target plain, Target elu) const {
    std::vector<Rows> rows;
    if (form_.dilation == 1)
        rows.push_back({window.data, window.stream, 0, form_.block, form_.taps * form_.block});
    else
        for (Size tap = 0; tap < form_.taps; tap++)
            rows.push_back({window.data, window.stream, tap * form_.dilation * form_.block, form_.block, form_.block});
    step.multiply(matrices_.front(), rows, form_.rows, plain, elu);
}

void Convolution::run_pairs(const Step& step, const Window& window, Target plain, Target elu) const {
    const Scratch::Mark mark = step.scratch.mark();
    const Size pairs = form_.rows / 2, block = form_.block, n = matrices_.front().n, stream = form_.rows * block;
    const Target shared{step.scratch.take(step.streams * pairs * n), pairs * n, n};
    float* const changes = step.scratch.take(step.streams * stream);
    for (Size s = 0; s < step.streams; s++)
        step.kernels.changes(window.data + s * window.stream, block, pairs, changes + s * stream);
    step.multiply(matrices_[0], {{window.data, window.stream, block, 2 * block, block}}, pairs, shared, {});
    for (Size i : {0, 1}) {
        const auto every_other = [i](Target target) {
            if (target.data) target.data += i * target.row;
            target.row *= 2;
            return target;
        };
        step.multiply(matrices_[static_cast<std::size_t>(1 + i)], {{changes, stream, i * block, 2 * block, block}}, pairs,
                      every_other(plain), every_other(elu), shared);
    }
    step.scratch.back_to(mark);
}

}  // namespace earshot
