// EnCodec, one frame of many streams at a time: PCM to codes and codes to PCM, without Python.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "layers.h"
#include "postfilter.h"

namespace earshot {

class Encoder {
  public:
    Encoder(Plan& plan, const Shape& shape);
    // Maps pcm [streams, hop] to latents [streams, padded dimension].
    void run(const Step& step, const float* pcm, float* latents) const;

  private:
    struct Stage {
        ResidualUnits units;
        Convolution down;
        Size stride, weights;
    };
    void run_stage(const Step& step, std::size_t index, const Inlet& inlet, Size time, Target plain, Target elu) const;

    Size hop_;
    Convolution first_;
    std::vector<Stage> stages_;
    ResidualLstm lstm_;
    Convolution last_;
};

class Quantizer {
  public:
    Quantizer(Plan& plan, const Shape& shape);
    // Maps latents [streams, padded dimension] to codes[s * row + q] for the first n_q[s]
    // codebooks.
    void encode(const Step& step, const float* latents, const Size* n_q, std::int16_t* codes, Size row) const;
    // Sums the entries of the first n_q codes.
    void decode(const std::int16_t* codes, Size n_q, float* latent) const;

  private:
    Size width_;
    std::vector<Codebook> codebooks_;
};

class Decoder {
  public:
    Decoder(Plan& plan, const Shape& shape);
    // Maps codes, as Quantizer::encode writes them, to pcm [streams, hop].
    void run(const Step& step, const Quantizer& quantizer, const std::int16_t* codes, Size row, const Size* n_q, float* pcm) const;

  private:
    struct Stage {
        Convolution up;
        ResidualUnits units;
        Size stride, weights;
    };
    void run_stage(const Step& step, std::size_t index, const Window& window, Size time, Target elu) const;

    Size hop_, latent_, width_;
    Convolution first_;
    ResidualLstm lstm_;
    std::vector<Stage> stages_;
    LastConvolution last_;
    std::unique_ptr<const Postfilter> postfilter_;  // null where the model has none
};

enum class Kind { encoder, decoder };

class Network;

// The whole state of one stream, in one piece of memory that can be copied.
class State {
  public:
    State(std::shared_ptr<const Network> network, Kind kind);
    State(const State& other);
    State(State&&) = default;

    const Network& network() const { return *network_; }
    Kind kind() const { return kind_; }
    Floats& floats() { return floats_; }

  private:
    std::shared_ptr<const Network> network_;
    Kind kind_;
    Floats floats_;
};

// Packed weights, which never change once they are built. Any number of threads share them, each
// with a Scratch of its own.
class Network {
  public:
    // Throws std::invalid_argument for tensors that are missing or do not fit, and for unknown
    // kernels. The first convolution, the last one to PCM and the search for codes are in fp32 in
    // any precision.
    Network(const Shape& shape, const Tensors& tensors, const std::string& kernels, Format precision = Format::fp32);

    const Shape& shape() const { return shape_; }
    const Kernels& kernels() const { return kernels_; }
    Size state_size(Kind kind) const { return kind == Kind::encoder ? encoder_state_ : decoder_state_; }
    Size weights_size() const { return weights_; }  // words

    // Step over one frame of each stream. States are distinct and belong to this network. n_q is in
    // 1..n_codebooks, and row is at least the largest n_q.
    void encode(Scratch& scratch, float* const* states, Size streams, const float* pcm, const Size* n_q, std::int16_t* codes,
                Size row) const;
    // Codes are in 0..codebook_size - 1.
    void decode(Scratch& scratch, float* const* states, Size streams, const std::int16_t* codes, Size row, const Size* n_q,
                float* pcm) const;

  private:
    Shape shape_;
    const Kernels& kernels_;
    Size encoder_state_ = 0, decoder_state_ = 0, weights_ = 0;
    std::unique_ptr<const Encoder> encoder_;
    std::unique_ptr<const Quantizer> quantizer_;
    std::unique_ptr<const Decoder> decoder_;
};

}  // namespace earshot
