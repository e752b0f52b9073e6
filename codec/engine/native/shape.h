// The shape of a network: the fields of ModelConfig (codec/config.py) that its layers are built
// from.
#pragma once

#include <vector>

#include "memory.h"

namespace earshot {

struct Shape {
    Size n_filters, dimension, kernel_size, last_kernel_size, residual_kernel_size, n_residual_layers, dilation_base, compress,
        lstm_layers, n_codebooks, codebook_size;
    std::vector<Size> ratios;  // of the decoder, as in ModelConfig

    Size hop() const {
        Size product = 1;
        for (Size ratio : ratios) product *= ratio;
        return product;
    }
    Size width() const { return n_filters << ratios.size(); }  // channels at the frame rate
};

}  // namespace earshot
