#include "network.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "refuse.h"

#if defined(__SSE__)
#include <xmmintrin.h>
#endif

namespace earshot {

namespace {

// Stages with few weights and many samples run stream by stream, so that the samples stay in the
// second-level cache. Stages with many weights run over all streams, so that weights are read once.
constexpr Size FEW_WEIGHTS = 1 << 17;

// More streams than this are stepped in turns: beyond it, sharing the weights saves no more time,
// but the samples take more memory.
constexpr Size TOGETHER = 32;

// Denormal numbers, as fading silence produces them, count as zero: the processor is slow with
// them.
class FlushTiny {
  public:
#if defined(__SSE__)
    FlushTiny() : before_(_mm_getcsr()) { _mm_setcsr(before_ | 0x8040); }
    ~FlushTiny() { _mm_setcsr(before_); }
    FlushTiny(const FlushTiny&) = delete;
    FlushTiny& operator=(const FlushTiny&) = delete;

  private:
    unsigned before_;
#else
    FlushTiny() {}
    ~FlushTiny() {}  // without one, compilers take it for an unused variable
#endif
};

const Shape& checked(const Shape& shape) {
    for (Size size : {shape.dimension, shape.kernel_size, shape.last_kernel_size, shape.residual_kernel_size,
                      shape.n_residual_layers, shape.dilation_base, shape.compress, shape.lstm_layers, shape.n_codebooks,
                      shape.codebook_size})
        if (size < 1 || size > 1 << 16) refuse("the shape of the network is not of this family");
    double dilation = 1, hop = 1;
    for (Size unit = 1; unit < shape.n_residual_layers; unit++) dilation *= static_cast<double>(shape.dilation_base);
    for (Size ratio : shape.ratios) hop *= ratio < 1 ? 1e30 : static_cast<double>(ratio);
    if (shape.ratios.empty() || shape.ratios.size() > 16 || hop > 1 << 24 || dilation > 1 << 24 ||
        shape.widths.size() != shape.ratios.size() + 1)
        refuse("the shape of the network is not of this family");
    for (Size width : shape.widths)
        if (width < 1 || width > 1 << 24) refuse("the shape of the network is not of this family");
    if (*std::min_element(shape.widths.begin(), shape.widths.end()) < shape.compress) refuse("the network compresses its residual units to nothing");
    if (shape.codebook_size > 1 << 15)
        refuse("the network has codebooks that 16 bits cannot index");
    return shape;
}

Target of_stream(Target target, Size s) {
    target.data += s * target.stream;
    return target;
}

}  // namespace

// ---- encoder: convolution, stages of residual units and a strided convolution, LSTM, convolution

Encoder::Encoder(Plan& plan, const Shape& shape)
    : hop_(shape.hop()),
      first_(Convolution::causal(plan, "encoder.layers.0", 1, shape.widths.front(), shape.kernel_size, 1, hop_, Use::pcm)),
      stages_([&] {
          std::vector<Stage> stages;
          Size index = 1, channels = shape.widths.front(), time = hop_;
          auto wider = shape.widths.begin() + 1;
          for (auto ratio = shape.ratios.rbegin(); ratio != shape.ratios.rend(); ++ratio) {
              const Size before = plan.weights;
              ResidualUnits units(plan, "encoder.layers.", index, channels, time, shape);
              index += shape.n_residual_layers + 1;  // plus one for the activation
              time /= *ratio;
              const std::string name = "encoder.layers." + std::to_string(index++);
              Convolution down = Convolution::strided(plan, name, channels, *wider, *ratio, time);
              stages.push_back({std::move(units), std::move(down), *ratio, plan.weights - before});
              channels = *wider++;
          }
          return stages;
      }()),
      lstm_(plan, "encoder.layers." + std::to_string(1 + stages_.size() * (shape.n_residual_layers + 2)), shape.width(),
            shape.lstm_layers),
      last_(Convolution::causal(plan, "encoder.layers." + std::to_string(3 + stages_.size() * (shape.n_residual_layers + 2)),
                                shape.width(), shape.dimension, shape.last_kernel_size, 1, 1, Use::once)) {}

void Encoder::run_stage(const Step& step, std::size_t index, const Inlet& inlet, Size time, Target plain, Target elu) const {
    const Stage& stage = stages_[index];
    const Window window = stage.down.open(step);
    stage.units.run(step, inlet, time, window.fresh(stage.down.in()));
    stage.down.run(step, window, plain, elu);
}

void Encoder::run(const Step& step, const float* pcm, float* latents) const {
    std::size_t narrow = 0;  // stages that run stream by stream
    Size time = hop_;
    while (narrow < stages_.size() && stages_[narrow].weights <= FEW_WEIGHTS) time /= stages_[narrow++].stride;

    // Input of the stages over all streams, or of the LSTM after them.
    const bool all_narrow = narrow == stages_.size();
    const Size width = stages_.back().down.out();
    float* top = step.scratch.take(step.streams * width);
    Inlet wide{{top, width, width}, {}};
    if (!all_narrow) wide = stages_[narrow].units.open(step, time);

    for (Size s = 0; s < step.streams; s++) {
        const Scratch::Mark mark = step.scratch.mark();
        const Step one = step.part(s, 1);
        const Window window = first_.open(one);
        std::memcpy(window.fresh(1).data, pcm + s * hop_, bytes(hop_));
        Size samples = hop_;
        Inlet inlet = narrow ? stages_[0].units.open(one, samples) : wide.from(s);
        first_.run(one, window, inlet.plain, inlet.elu.fresh(first_.out()));
        for (std::size_t index = 0; index < narrow; index++) {
            const Stage& stage = stages_[index];
            const bool to_wide = index + 1 == narrow;
            const Inlet next = to_wide ? wide.from(s) : stages_[index + 1].units.open(one, samples / stage.stride);
            const bool has_elu = !(to_wide && all_narrow);
            run_stage(one, index, inlet, samples, next.plain, has_elu ? next.elu.fresh(stage.down.out()) : Target{});
            samples /= stage.stride;
            inlet = next;
        }
        step.scratch.back_to(mark);
    }
    for (std::size_t index = narrow; index < stages_.size(); index++) {
        const Stage& stage = stages_[index];
        if (index + 1 == stages_.size()) {
            run_stage(step, index, wide, time, {top, width, width}, {});
        } else {
            const Inlet next = stages_[index + 1].units.open(step, time / stage.stride);
            run_stage(step, index, wide, time, next.plain, next.elu.fresh(stage.down.out()));
            wide = next;
        }
        time /= stage.stride;
    }
    const Window window = last_.open(step);
    lstm_.run(step, top, window.fresh(width));
    last_.run(step, window, {latents, last_.out(), last_.out()}, {});
}

// ---- quantizer

Quantizer::Quantizer(Plan& plan, const Shape& shape) : width_(padded(shape.dimension)) {
    const Size size = shape.codebook_size, dimension = shape.dimension;
    const float* all = plan.tensors.get("quantizer.codebooks", {shape.n_codebooks, size, dimension});
    const float* norms = plan.tensors.get("quantizer.norms", {shape.n_codebooks, size});
    for (Size q = 0; q < shape.n_codebooks; q++, all += size * dimension, norms += size) {
        Codebook book;
        book.size = size;
        book.width = width_;
        book.entries = Floats(size * width_);
        book.norms = Floats(padded(size));
        Floats columns(width_ * padded(size));
        for (Size n = 0; n < size; n++) {
            std::copy_n(all + n * dimension, dimension, book.entries.data() + n * width_);
            for (Size k = 0; k < dimension; k++) columns.data()[k * padded(size) + n] = all[n * dimension + k];
            book.longest = std::max(book.longest, std::sqrt(norms[n]));
        }
        const Format format = plan.kernels.bf16 ? Format::bf16 : plan.precision == Format::fp16 ? Format::fp16 : Format::fp32;
        const bool tall = plan.kernels.tall_panel > plan.kernels.panel;
        book.columns = pack(plan.kernels, format, columns, {width_}, padded(size), tall);
        std::fill_n(book.norms.data(), padded(size), std::numeric_limits<float>::infinity());
        std::copy_n(norms, size, book.norms.data());
        plan.weights += book.entries.size() + book.columns.weights.size();
        codebooks_.push_back(std::move(book));
    }
}

void Quantizer::encode(const Step& step, const float* latents, const Size* n_q, std::int16_t* codes, Size row) const {
    // Streams with the most codebooks come first, so that those that continue are in front.
    std::vector<Size> order(static_cast<std::size_t>(step.streams));
    std::iota(order.begin(), order.end(), Size{0});
    std::stable_sort(order.begin(), order.end(), [&](Size a, Size b) { return n_q[a] > n_q[b]; });
    std::vector<int> found(order.size());
    float* rest = step.scratch.take(step.streams * width_);
    const Size columns = std::max(std::max(step.kernels.panel, step.kernels.tall_panel), codebooks_.front().columns.n);
    float* space = step.scratch.take(step.streams * (columns + width_ + 4 * LANES));
    for (Size s = 0; s < step.streams; s++) std::copy_n(latents + order[s] * width_, width_, rest + s * width_);
    Size active = step.streams;
    for (Size q = 0;; q++) {
        while (active && n_q[order[active - 1]] <= q) active--;
        if (!active) return;
        const Codebook& book = codebooks_[static_cast<std::size_t>(q)];
        step.kernels.nearest(book, rest, active, space, found.data());
        for (Size s = 0; s < active; s++) {
            const float* entry = book.entries.data() + found[s] * width_;
            float* own = rest + s * width_;
            for (Size k = 0; k < width_; k++) own[k] -= entry[k];
            codes[order[s] * row + q] = static_cast<std::int16_t>(found[s]);
        }
    }
}

void Quantizer::decode(const std::int16_t* codes, Size n_q, float* latent) const {
    std::fill_n(latent, width_, 0.0f);
    for (Size q = 0; q < n_q; q++) {
        const float* entry = codebooks_[static_cast<std::size_t>(q)].entries.data() + codes[q] * width_;
        for (Size k = 0; k < width_; k++) latent[k] += entry[k];
    }
}

// ---- decoder: convolution, LSTM, stages of transposed convolution and residual units, convolution

Decoder::Decoder(Plan& plan, const Shape& shape)
    : hop_(shape.hop()),
      latent_(padded(shape.dimension)),
      width_(padded(shape.width())),
      first_(Convolution::causal(plan, "decoder.layers.0", shape.dimension, shape.width(), shape.kernel_size, 1, 1, Use::once)),
      lstm_(plan, "decoder.layers.1", shape.width(), shape.lstm_layers),
      stages_([&] {
          std::vector<Stage> stages;
          Size index = 3, channels = shape.width(), time = 1;
          auto narrower = shape.widths.rbegin() + 1;
          for (Size ratio : shape.ratios) {
              const Size before = plan.weights;
              const std::string name = "decoder.layers." + std::to_string(index++);
              Convolution up = Convolution::transposed(plan, name, channels, *narrower, ratio, time);
              time *= ratio;
              channels = *narrower++;
              ResidualUnits units(plan, "decoder.layers.", index, channels, time, shape);
              stages.push_back({std::move(up), std::move(units), ratio, plan.weights - before});
              index += shape.n_residual_layers + 1;
          }
          return stages;
      }()),
      last_(plan, "decoder.layers." + std::to_string(3 + stages_.size() * (shape.n_residual_layers + 2)), shape.widths.front(),
            shape.last_kernel_size),
      postfilter_(shape.postfilter ? std::make_unique<const Postfilter>(plan, shape) : nullptr) {}

void Decoder::run_stage(const Step& step, std::size_t index, const Window& window, Size time, Target elu) const {
    const Stage& stage = stages_[index];
    const Size width = elu.row;
    const Inlet inlet = stage.units.open(step, time * stage.stride);
    stage.up.run(step, window, inlet.plain, inlet.elu.fresh(width));
    stage.units.run(step, inlet, time * stage.stride, elu);
}

void Decoder::run(const Step& step, const Quantizer& quantizer, const std::int16_t* codes, Size row, const Size* n_q,
                  float* pcm) const {
    const Window latents = first_.open(step);
    for (Size s = 0; s < step.streams; s++)
        quantizer.decode(codes + s * row, n_q[s], of_stream(latents.fresh(latent_), s).data);
    float* top = step.scratch.take(step.streams * width_);
    first_.run(step, latents, {top, width_, width_}, {});

    std::size_t wide = stages_.size();  // stages that run over all streams
    while (wide && stages_[wide - 1].weights <= FEW_WEIGHTS) wide--;

    Size time = 1;
    const auto open = [&](const Step& some, std::size_t index, Size samples) {
        return index < stages_.size() ? stages_[index].up.open(some) : last_.open(some, samples);
    };
    Window window = open(step, 0, time);
    lstm_.run(step, top, window.fresh(width_));
    for (std::size_t index = 0; index < wide; index++) {
        const Window next = open(step, index + 1, time * stages_[index].stride);
        run_stage(step, index, window, time, next.fresh(stages_[index].units.width()));
        time *= stages_[index].stride;
        window = next;
    }
    for (Size s = 0; s < step.streams; s++) {
        const Scratch::Mark mark = step.scratch.mark();
        const Step one = step.part(s, 1);
        Window own = window.from(s);
        Size samples = time;
        for (std::size_t index = wide; index < stages_.size(); index++) {
            const Window next = open(one, index + 1, samples * stages_[index].stride);
            run_stage(one, index, own, samples, next.fresh(stages_[index].units.width()));
            samples *= stages_[index].stride;
            own = next;
        }
        last_.run(one, own, samples, pcm + s * hop_);
        if (postfilter_) postfilter_->run(one, pcm + s * hop_);
        step.scratch.back_to(mark);
    }
}

// ---- network

State::State(std::shared_ptr<const Network> network, Kind kind)
    : network_(std::move(network)), kind_(kind), floats_(network_->state_size(kind)) {}

State::State(const State& other) : State(other.network_, other.kind_) {
    std::copy_n(other.floats_.data(), floats_.size(), floats_.data());
}

Network::Network(const Shape& shape, const Tensors& tensors, const std::string& kernels, Format precision)
    : shape_(checked(shape)), kernels_(find_kernels(kernels)) {
    Plan encoder{tensors, kernels_, precision}, quantizer{tensors, kernels_, precision}, decoder{tensors, kernels_, precision};
    encoder_ = std::make_unique<Encoder>(encoder, shape_);
    quantizer_ = std::make_unique<Quantizer>(quantizer, shape_);
    decoder_ = std::make_unique<Decoder>(decoder, shape_);
    encoder_state_ = encoder.state;
    decoder_state_ = decoder.state;
    weights_ = encoder.weights + quantizer.weights + decoder.weights;
}

void Network::encode(Scratch& scratch, float* const* states, Size streams, const float* pcm, const Size* n_q,
                     std::int16_t* codes, Size row) const {
    const FlushTiny flush;
    for (Size s = 0; s < streams; s += TOGETHER) {
        scratch.reset();
        const Step step{kernels_, scratch, states + s, std::min(TOGETHER, streams - s)};
        float* latents = scratch.take(step.streams * padded(shape_.dimension));
        encoder_->run(step, pcm + s * shape_.hop(), latents);
        quantizer_->encode(step, latents, n_q + s, codes + s * row, row);
    }
}

void Network::decode(Scratch& scratch, float* const* states, Size streams, const std::int16_t* codes, Size row,
                     const Size* n_q, float* pcm) const {
    const FlushTiny flush;
    for (Size s = 0; s < streams; s += TOGETHER) {
        scratch.reset();
        const Step step{kernels_, scratch, states + s, std::min(TOGETHER, streams - s)};
        decoder_->run(step, *quantizer_, codes + s * row, row, n_q + s, pcm + s * shape_.hop());
    }
}

}  // namespace earshot
