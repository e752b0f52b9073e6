// The engine for JavaScript (codec.js): one network a module, one stream a step, one frame at a
// time. A call that fails returns 0 and leaves its reason in earshot_error(). It checks what
// binding.cpp checks for Python.
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "network.h"
#include "refuse.h"

#define EXPORT(name) extern "C" __attribute__((export_name(#name), used)) auto name

using namespace earshot;

namespace {

std::string error;

struct Builder {
    Tensors tensors;
    std::vector<std::unique_ptr<Floats>> values;
};

// What one thread of JavaScript steps with. Frames go in and out in `pcm` and `codes`.
struct Codec {
    std::shared_ptr<const Network> network;
    Scratch scratch;
    Floats pcm;
    std::vector<std::int16_t> codes;
};

float from_half(std::uint16_t half) {
    const std::uint32_t sign = std::uint32_t{half & 0x8000u} << 16;
    const int exponent = half >> 10 & 31;
    std::uint32_t fraction = half & 0x3ffu, word;
    if (exponent == 31) word = 0x7f800000u | fraction << 13;
    else if (exponent) word = static_cast<std::uint32_t>(exponent + 112) << 23 | fraction << 13;
    else {
        const float tiny = static_cast<float>(fraction) * 0x1p-24f;
        std::memcpy(&word, &tiny, sizeof word);
    }
    word |= sign;
    float value;
    std::memcpy(&value, &word, sizeof value);
    return value;
}

}  // namespace

// The reason goes to JavaScript. Then the module traps, and may not be used any more.
__attribute__((import_module("earshot"), import_name("refuse"))) void refuse_in_js(const char* why, std::size_t length);
[[noreturn]] void earshot::refuse(const std::string& why) {
    refuse_in_js(why.data(), why.size());
    __builtin_trap();
}

EXPORT(earshot_error)() -> const char* { return error.c_str(); }
EXPORT(earshot_alloc)(std::size_t size) -> void* { return std::malloc(size); }
EXPORT(earshot_free)(void* data) -> void { std::free(data); }

EXPORT(earshot_begin)() -> Builder* { return new Builder; }

// Takes a copy of a tensor of float32 (half = 0) or float16 (half = 1). Returns 0 for values that are
// not finite.
EXPORT(earshot_tensor)(Builder* builder, const char* name, int half, const void* data, int dimensions, const std::int32_t* shape)
    -> int {
    std::vector<Size> sizes(shape, shape + dimensions);
    Size size = 1;
    for (Size one : sizes) size *= one;
    auto values = std::make_unique<Floats>(size);
    if (half)
        for (Size i = 0; i < size; i++) values->data()[i] = from_half(static_cast<const std::uint16_t*>(data)[i]);
    else
        std::memcpy(values->data(), data, bytes(size));
    for (Size i = 0; i < size; i++)
        if (!std::isfinite(values->data()[i])) return error = std::string(name) + " holds NaN or infinite values", 0;
    if (std::string(name) == "quantizer.codebooks" && dimensions == 3) {
        const Size rows = sizes[0] * sizes[1], width = sizes[2];
        auto norms = std::make_unique<Floats>(rows);
        for (Size row = 0; row < rows; row++)
            for (Size k = 0; k < width; k++) {
                const float x = values->data()[row * width + k];
                norms->data()[row] += x * x;
            }
        builder->tensors.add("quantizer.norms", {norms->data(), {sizes[0], sizes[1]}});
        builder->values.push_back(std::move(norms));
    }
    builder->tensors.add(name, {values->data(), std::move(sizes)});
    builder->values.push_back(std::move(values));
    return 1;
}

// Builds a network and ends the builder. `sizes` are the fields of Shape in order, the ratios and the widths, of which there
// is one more. `fine` and `coarse` are the postfilter's exponents, below zero where there is none.
// What does not fit is refused.
EXPORT(earshot_build)(Builder* builder, const std::int32_t* sizes, int count, int precision, float fine, float coarse) -> Codec* {
    const std::unique_ptr<Builder> own(builder);
    const std::int32_t *ratios = sizes + 10, *widths = ratios + (count - 11) / 2;
    Shape shape{sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], sizes[5], sizes[6], sizes[7], sizes[8], sizes[9],
                {ratios, widths}, {widths, sizes + count}, fine >= 0 && coarse >= 0, fine, coarse};
    auto codec = std::make_unique<Codec>();
    codec->network = std::make_shared<const Network>(shape, own->tensors, "portable", static_cast<Format>(precision));
    codec->pcm = Floats(shape.hop());
    codec->codes.resize(static_cast<std::size_t>(shape.n_codebooks));
    return codec.release();
}

EXPORT(earshot_pcm)(Codec* codec) -> float* { return codec->pcm.data(); }
EXPORT(earshot_codes)(Codec* codec) -> std::int16_t* { return codec->codes.data(); }
EXPORT(earshot_weight_bytes)(Codec* codec) -> std::size_t { return bytes(codec->network->weights_size()); }

EXPORT(earshot_open)(Codec* codec, int decoder) -> State* {
    return new State(codec->network, decoder ? Kind::decoder : Kind::encoder);
}
// Opens a stream that goes on from where another is.
EXPORT(earshot_copy)(State* state) -> State* { return new State(*state); }
EXPORT(earshot_reset)(State* state) -> void { state->floats().clear(); }
EXPORT(earshot_close)(State* state) -> void { delete state; }

// Encodes `pcm` to the first n_q codes. Returns 0 for a state of another kind, and for samples that
// are not finite.
EXPORT(earshot_encode)(Codec* codec, State* state, int n_q) -> int {
    const Shape& shape = codec->network->shape();
    if (state->kind() != Kind::encoder || n_q < 1 || n_q > shape.n_codebooks) return error = "not an encoder, or no such n_q", 0;
    for (Size i = 0; i < shape.hop(); i++)
        if (!std::isfinite(codec->pcm.data()[i])) return error = "pcm must be finite", 0;
    float* const states[] = {state->floats().data()};
    const Size counts[] = {n_q};
    codec->network->encode(codec->scratch, states, 1, codec->pcm.data(), counts, codec->codes.data(), shape.n_codebooks);
    return 1;
}

// Decodes the first n_q codes to `pcm`. Returns 0 for a state of another kind, and for codes that
// there are not.
EXPORT(earshot_decode)(Codec* codec, State* state, int n_q) -> int {
    const Shape& shape = codec->network->shape();
    if (state->kind() != Kind::decoder || n_q < 1 || n_q > shape.n_codebooks) return error = "not a decoder, or no such n_q", 0;
    for (int q = 0; q < n_q; q++)
        if (codec->codes[static_cast<std::size_t>(q)] < 0 || codec->codes[static_cast<std::size_t>(q)] >= shape.codebook_size)
            return error = "a code is out of range", 0;
    float* const states[] = {state->floats().data()};
    const Size counts[] = {n_q};
    codec->network->decode(codec->scratch, states, 1, codec->codes.data(), shape.n_codebooks, counts, codec->pcm.data());
    return 1;
}
