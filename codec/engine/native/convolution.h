// The convolutions of SEANet, all of one kind: causal, over blocks of floats,
//
//     y[t] = bias + sum over i < taps of x[t - (taps - 1 - i) * dilation] W[i].
//
// A block is the channels of a sample, or of `stride` samples if the kernel is two strides long. A
// transposed convolution with such a kernel has `stride` outputs side by side in a row of y.
//
// With two taps, V and W, two rows of y take three products of a block instead of four (S.
// Winograd, Arithmetic Complexity of Computations, 1980: F(2, 2)): y[t] = m + (x[t - 1] - x[t]) V
// and y[t + 1] = m + (x[t + 1] - x[t]) W, where both share m = bias + x[t] (V + W). This is done
// only in fp32, because the differences would cost the other formats digits.
#pragma once

#include <string>
#include <vector>

#include "plan.h"

namespace earshot {

class Convolution {
  public:
    // `rows` is the number of rows of y per frame.
    static Convolution causal(Plan& plan, const std::string& name, Size in, Size out, Size kernel, Size dilation, Size rows,
                              Use use = Use::often);
    static Convolution strided(Plan& plan, const std::string& name, Size in, Size out, Size stride, Size rows);
    static Convolution transposed(Plan& plan, const std::string& name, Size in, Size out, Size stride, Size rows);

    Size in() const { return form_.in; }  // floats per sample
    Size out() const { return form_.out; }

    // Returns a window with the kept samples of the streams, and space for a frame.
    Window open(const Step& step) const { return Window::open(step, state_, context(), form_.rows * form_.block); }
    // Computes the rows of each stream; the states keep the end of the window.
    void run(const Step& step, const Window& window, Target plain, Target elu) const;

  private:
    struct Form {
        Size in, out, block, taps, dilation, rows, outputs;  // outputs: samples in a row of y
    };
    // weight(tap, k, output, channel) is called for k < block, output < outputs and
    // channel < channels, which is `out` without padding.
    template <class Weight>
    Convolution(Plan& plan, Use use, const Form& form, const float* bias, Size channels, Weight weight);

    Size context() const { return (form_.taps - 1) * form_.dilation * form_.block; }
    void run_direct(const Step& step, const Window& window, Target plain, Target elu) const;
    void run_pairs(const Step& step, const Window& window, Target plain, Target elu) const;

    Form form_;
    Size state_;
    std::vector<Matrix> matrices_;  // all taps, one below the other; for pairs V + W, V and W
};

}  // namespace earshot
