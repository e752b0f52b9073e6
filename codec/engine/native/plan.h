// What layers are built with (weights, kernels, the state that they ask for), and what they run
// with (states, memory, windows). Activations are [stream, time, channels], so that a causal
// convolution is a product whose rows are overlapping windows, read where they lie.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "pack.h"

namespace earshot {

// The tensors of a model by name, float32 and dense. They are read only while a network is built.
struct Tensor {
    const float* data;
    std::vector<Size> shape;
};

class Tensors {
  public:
    void add(const std::string& name, Tensor tensor) { tensors_[name] = std::move(tensor); }
    // Throws std::invalid_argument if it is missing or has another shape.
    const float* get(const std::string& name, const std::vector<Size>& shape) const;

  private:
    std::map<std::string, Tensor> tensors_;
};

// How often a layer's weights are used in a frame: for many samples of a stream, or for one. A
// layer that uses them once waits for its weights more than it computes. A layer on samples of PCM,
// which have no padding, stays in fp32.
enum class Use { pcm, often, once };

// What a network is built with: the source of its weights, its kernels, and the size of the state
// that its layers have asked for so far.
struct Plan {
    const Tensors& tensors;
    const Kernels& kernels;
    Format precision = Format::fp32;  // the lowest that a layer may use
    Size state = 0;     // floats
    Size weights = 0;   // words

    // Uses bytes only if a row is quantised once for many columns, and the fastest format
    // otherwise; fp16, which takes less memory and more instructions, only where weights are used
    // once.
    Format format(Use use) const {
        if (use == Use::pcm || (precision == Format::fp16 && use == Use::often)) return Format::fp32;
        if (precision != Format::int8 || use == Use::once) return precision;
        return kernels.bf16 ? Format::bf16 : Format::fp32;
    }

    Size keep(Size size) {
        const Size offset = state;
        state += padded(size);
        return offset;
    }

    // weight(k, n) is called for all k and n; columns of padding are zero. `cuts` is as for `pack`.
    template <class Weight>
    Matrix matrix(Use use, const std::vector<Size>& cuts, Size n, Weight weight) {
        Size k = 0;
        for (Size cut : cuts) k += cut;
        Floats all(k * padded(n));
        for (Size row = 0; row < k; row++)
            for (Size column = 0; column < n; column++) all.data()[row * padded(n) + column] = weight(row, column);
        Matrix matrix = pack(kernels, format(use), all, cuts, padded(n), use == Use::once);
        weights += matrix.weights.size();
        return matrix;
    }
};

// What a step works with: the states of its streams, and memory.
struct Step {
    const Kernels& kernels;
    Scratch& scratch;
    float* const* states;
    Size streams;

    void multiply(const Matrix& matrix, const std::vector<Rows>& rows, Size count, Target plain, Target elu,
                  Target start = {}) const {
        earshot::multiply(kernels, scratch, matrix, rows, streams, count, plain, elu, start);
    }

    // Returns the same for streams [from, from + count).
    Step part(Size from, Size count) const { return {kernels, scratch, states + from, count}; }
};

// The input of a convolution for one frame: for each stream the kept samples, then space for the
// new ones.
struct Window {
    float* data;
    Size stream, kept;  // floats from stream to stream, and of the kept samples
    Target fresh(Size width) const { return {data + kept, stream, width}; }
    Window from(Size first) const { return {data + first * stream, stream, kept}; }

    // Starts with what each stream kept at `state`, and space for `fresh` floats.
    static Window open(const Step& step, Size state, Size kept, Size fresh);
    // Stores the last `kept` floats of each stream as its state.
    void keep_end(const Step& step, Size state) const;
};

// Where the next layer reads its input: plain, and as a window on ELU(x). Either may be absent.
struct Inlet {
    Target plain;
    Window elu;
    Inlet from(Size first) const {
        Target moved = plain;
        if (moved.data) moved.data += first * moved.stream;
        return {moved, elu.from(first)};
    }
};

}  // namespace earshot
