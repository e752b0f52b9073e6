// The shape of a network: the fields of ModelConfig (codec/config.py) that its layers are built
// from.
#pragma once

#include <algorithm>
#include <vector>

#include "memory.h"

namespace earshot {

struct Shape {
    Size dimension, kernel_size, last_kernel_size, residual_kernel_size, n_residual_layers, dilation_base, compress,
        lstm_layers, n_codebooks, codebook_size;
    std::vector<Size> ratios;  // of the decoder, as in ModelConfig
    std::vector<Size> widths;  // channels from the sample rate down to the frame rate, one more than ratios
    bool postfilter = false;
    float fine = 0, coarse = 0;  // exponents of the postfilter

    Size hop() const {
        Size product = 1;
        for (Size ratio : ratios) product *= ratio;
        return product;
    }
    static std::vector<Size> doubled(Size n_filters, std::size_t ratios) {  // widths where a model has none of its own
        std::vector<Size> widths{n_filters};
        for (std::size_t ratio = 0; ratio < std::min<std::size_t>(ratios, 32); ratio++) widths.push_back(2 * widths.back());
        return widths;
    }
    Size width() const { return widths.back(); }  // channels at the frame rate
};

}  // namespace earshot
