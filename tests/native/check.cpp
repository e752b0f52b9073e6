// Checks the engine without Python: check streams | threads | save FILE | compare FILE.
//
// streams: every kernel set of this processor gives the same bits alone and together with others,
// after copy and reset, and results close to those of the portable kernels; the fastest also in
// bf16 and int8. threads: several threads share weights and nothing else. save, compare: the
// results of the portable kernels, to be compared on another processor. Weights and sound are
// random and the same everywhere. tests/codec/engine compares the same kernels with torch.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "network.h"

using namespace earshot;

namespace {

constexpr Size STREAMS = 37, FRAMES = 7;  // more streams than are stepped together

void require(bool condition, const std::string& what) {
    if (condition) return;
    std::fprintf(stderr, "failed: %s\n", what.c_str());
    std::exit(1);
}

// Draws whole numbers only, so that every processor draws the same ones.
class Random {
  public:
    explicit Random(std::uint64_t seed) : state_(seed) {}
    std::uint32_t below(std::uint32_t n) {
        state_ = state_ * 6364136223846793005u + 1442695040888963407u;
        return static_cast<std::uint32_t>(((state_ >> 32) * n) >> 32);
    }
    // Draws a number in -size..size.
    float uniform(float size) { return (static_cast<float>(below(1 << 20)) / (1 << 19) - 1.0f) * size; }

  private:
    std::uint64_t state_;
};

// Random weights with the names of codec/model/network.py.
class Weights {
  public:
    Weights(const Shape& shape, std::uint64_t seed) : random_(seed) {
        Size index = 0, channels = shape.widths.front();
        auto next = shape.widths.begin();
        const auto name = [&](const char* net) { return std::string(net) + ".layers." + std::to_string(index++); };
        conv(name("encoder"), 1, channels, shape.kernel_size);
        for (auto ratio = shape.ratios.rbegin(); ratio != shape.ratios.rend(); ++ratio) {
            units(name, "encoder", channels, shape);
            conv(name("encoder"), channels, *++next, 2 * *ratio);
            channels = *next;
        }
        lstm(name("encoder"), channels, shape.lstm_layers);
        index++;
        conv(name("encoder"), channels, shape.dimension, shape.last_kernel_size);

        books(shape);

        index = 0;
        conv(name("decoder"), shape.dimension, channels, shape.kernel_size);
        lstm(name("decoder"), channels, shape.lstm_layers);
        index++;
        for (Size ratio : shape.ratios) {
            const std::string up = name("decoder");
            add(up + ".weight", {channels, *--next, 2 * ratio}, 2 * channels);
            add(up + ".bias", {*next}, 100);
            channels = *next;
            units(name, "decoder", channels, shape);
        }
        conv(name("decoder"), channels, 1, shape.last_kernel_size);
    }

    const Tensors& tensors() const { return tensors_; }

  private:
    // As a file of weights in fp16 has them: ten bits of fraction, and nothing under 2^-24.
    static float short_float(float value) {
        std::uint32_t bits;
        std::memcpy(&bits, &value, sizeof bits);
        bits &= 0xffffe000;
        std::memcpy(&value, &bits, sizeof bits);
        return std::abs(value) < 0x1p-24f ? 0.0f : value;
    }

    // Uniform, with the variance at which a sum over `fan_in` inputs varies as much as its inputs.
    void add(const std::string& name, const std::vector<Size>& shape, Size fan_in) {
        Size size = 1;
        for (Size n : shape) size *= n;
        values_.emplace_back(static_cast<std::size_t>(size));
        for (float& value : values_.back()) value = short_float(random_.uniform(std::sqrt(5.0f / static_cast<float>(fan_in))));
        tensors_.add(name, {values_.back().data(), shape});
    }

    void conv(const std::string& name, Size in, Size out, Size kernel) {
        add(name + ".weight", {out, in, kernel}, in * kernel);
        add(name + ".bias", {out}, 100);
    }

    template <class Name>
    void units(const Name& name, const char* net, Size channels, const Shape& shape) {
        const Size hidden = channels / shape.compress;
        for (Size unit = 0; unit < shape.n_residual_layers; unit++) {
            const std::string own = name(net);
            conv(own + ".narrow", channels, hidden, shape.residual_kernel_size);
            conv(own + ".widen", hidden, channels, 1);
            conv(own + ".shortcut", channels, channels, 1);
        }
        name(net);  // an activation
    }

    void lstm(const std::string& name, Size width, Size layers) {
        for (Size layer = 0; layer < layers; layer++) {
            const std::string end = "_l" + std::to_string(layer);
            for (const char* from : {"ih", "hh"}) {
                add(name + ".lstm.weight_" + from + end, {4 * width, width}, width);
                add(name + ".lstm.bias_" + from + end, {4 * width}, 100);
            }
        }
    }

    void books(const Shape& shape) {
        add("quantizer.codebooks", {shape.n_codebooks, shape.codebook_size, shape.dimension}, 5);
        const std::vector<float>& all = values_.back();
        std::vector<float> norms(static_cast<std::size_t>(shape.n_codebooks * shape.codebook_size));
        for (std::size_t i = 0; i < all.size(); i++) norms[i / static_cast<std::size_t>(shape.dimension)] += all[i] * all[i];
        values_.push_back(std::move(norms));
        tensors_.add("quantizer.norms", {values_.back().data(), {shape.n_codebooks, shape.codebook_size}});
    }

    Random random_;
    Tensors tensors_;
    std::vector<std::vector<float>> values_;  // growing moves the vectors, not their contents
};

struct Shaped {
    const char* name;
    Shape shape;
};

// The default model at an eighth of its width, a shape that fills no vector, one with stages that
// run over all streams, and one with widths of its own.
const Shaped SHAPES[] = {
    {"family", {128, 7, 7, 3, 1, 2, 2, 2, 8, 256, {8, 5, 4, 2}, Shape::doubled(4, 4)}},
    {"odd", {20, 5, 3, 2, 3, 3, 3, 1, 5, 64, {4, 2, 3}, Shape::doubled(6, 3)}},
    {"wide", {33, 7, 7, 3, 1, 2, 2, 1, 2, 128, {16}, Shape::doubled(96, 1)}},
    {"steep", {16, 7, 7, 3, 2, 1, 2, 1, 3, 64, {1, 4, 10}, {8, 24, 40, 40}}},
};

struct Sound {
    std::vector<std::int16_t> codes;
    std::vector<float> pcm;
    bool operator==(const Sound& other) const { return codes == other.codes && pcm == other.pcm; }
};

// One stream in both directions.
struct Stream {
    explicit Stream(const std::shared_ptr<const Network>& network)
        : encoder(network, Kind::encoder), decoder(network, Kind::decoder) {}
    State encoder, decoder;
};

std::vector<float> frame(const Shape& shape, Size stream, Size time) {
    Random random(static_cast<std::uint64_t>(stream * 1000 + time + 1));
    random.below(2);
    std::vector<float> pcm(static_cast<std::size_t>(shape.hop()));
    for (float& sample : pcm) sample = random.uniform(stream % 5 == 4 ? 1e-3f : 1.0f);
    return pcm;
}

// Steps one frame of each stream in `who`, whose next frames are `times`. Returns the results by
// stream.
std::vector<Sound> step(const Network& network, Scratch& scratch, std::vector<Stream>& streams, const std::vector<Size>& who,
                        const std::vector<Size>& times) {
    const Shape& shape = network.shape();
    const auto count = static_cast<Size>(who.size()), row = shape.n_codebooks, hop = shape.hop();
    std::vector<float*> encoders, decoders;
    std::vector<Size> n_q;
    std::vector<float> pcm;
    for (Size i = 0; i < count; i++) {
        Stream& stream = streams[static_cast<std::size_t>(who[i])];
        encoders.push_back(stream.encoder.floats().data());
        decoders.push_back(stream.decoder.floats().data());
        n_q.push_back(1 + (who[i] + times[i]) % row);
        const std::vector<float> own = frame(shape, who[i], times[i]);
        pcm.insert(pcm.end(), own.begin(), own.end());
    }
    std::vector<std::int16_t> codes(static_cast<std::size_t>(count * row), -1);
    network.encode(scratch, encoders.data(), count, pcm.data(), n_q.data(), codes.data(), row);
    network.decode(scratch, decoders.data(), count, codes.data(), row, n_q.data(), pcm.data());
    std::vector<Sound> sounds;
    for (Size i = 0; i < count; i++) {
        const std::int16_t* own = codes.data() + i * row;
        for (Size q = 0; q < row; q++)
            require(q < n_q[i] ? own[q] >= 0 && own[q] < shape.codebook_size : own[q] == -1, "codes are in range");
        for (Size j = 0; j < hop; j++) require(std::isfinite(pcm[i * hop + j]), "sound is finite");
        sounds.push_back({{own, own + n_q[i]}, {pcm.begin() + i * hop, pcm.begin() + (i + 1) * hop}});
    }
    return sounds;
}

using Sounds = std::vector<std::vector<Sound>>;  // [stream][time]

// Runs every stream by itself.
Sounds alone(const std::shared_ptr<const Network>& network) {
    std::vector<Stream> streams(STREAMS, Stream(network));
    Sounds sounds(STREAMS);
    Scratch scratch;
    for (Size s = 0; s < STREAMS; s++)
        for (Size t = 0; t < FRAMES; t++) sounds[s].push_back(step(*network, scratch, streams, {s}, {t})[0]);
    return sounds;
}

// Steps random streams together, in batches of all sizes, until all have ended.
void check_company(const std::shared_ptr<const Network>& network, const Sounds& expected, const std::string& name) {
    std::vector<Stream> streams(STREAMS, Stream(network));
    std::vector<Size> next(STREAMS, 0), waiting;
    Random random(7);
    Scratch scratch;
    for (Size s = 0; s < STREAMS; s++) waiting.push_back(s);
    bool all = true;  // in the first batch
    while (!waiting.empty()) {
        for (std::size_t i = waiting.size(); i > 1; i--) std::swap(waiting[i - 1], waiting[random.below(i)]);
        const auto size = all ? waiting.size() : 1 + random.below(static_cast<std::uint32_t>(waiting.size()));
        all = false;
        const std::vector<Size> who(waiting.begin(), waiting.begin() + static_cast<Size>(size));
        std::vector<Size> times;
        for (Size s : who) times.push_back(next[s]++);
        const std::vector<Sound> sounds = step(*network, scratch, streams, who, times);
        for (std::size_t i = 0; i < size; i++)
            require(sounds[i] == expected[who[i]][times[i]], name + ": the same bits alone and in company");
        waiting.erase(std::remove_if(waiting.begin(), waiting.end(), [&](Size s) { return next[s] == FRAMES; }), waiting.end());
    }
}

void check_copy_and_reset(const std::shared_ptr<const Network>& network, const Sounds& expected, const std::string& name) {
    std::vector<Stream> streams(2, Stream(network));
    Scratch scratch;
    for (Size t = 0; t < 3; t++) step(*network, scratch, streams, {0}, {t});
    std::vector<Stream> twins(1, streams[0]);
    for (Size t = 3; t < 6; t++) {
        require(step(*network, scratch, twins, {0}, {t})[0] == expected[0][t], name + ": a copy goes on");
        step(*network, scratch, streams, {1}, {t});
        require(step(*network, scratch, streams, {0}, {t})[0] == expected[0][t], name + ": what was copied goes on");
    }
    streams[0].encoder.floats().clear();
    streams[0].decoder.floats().clear();
    require(step(*network, scratch, streams, {0}, {0})[0] == expected[0][0], name + ": a stream that was reset is new");
}

// Codes may differ if two entries are equally near within rounding; the decoded sound then differs
// too.
void check_close(const Sounds& expected, const Sounds& found, const std::string& name) {
    Size codes = 0, other = 0;
    float worst = 0, loudest = 0;
    std::vector<bool> used(1 << 16);
    for (Size s = 0; s < STREAMS; s++) {
        bool same = true;
        for (Size t = 0; t < FRAMES; t++) {
            const Sound &a = expected[s][t], &b = found[s][t];
            require(a.codes.size() == b.codes.size() && a.pcm.size() == b.pcm.size(), name + ": the same sizes");
            for (std::size_t q = 0; q < a.codes.size(); q++, codes++) {
                used[static_cast<std::size_t>(a.codes[q])] = true;
                other += a.codes[q] != b.codes[q];
            }
            same = same && a.codes == b.codes;
            for (std::size_t i = 0; same && i < a.pcm.size(); i++) {
                loudest = std::max(loudest, std::abs(a.pcm[i]));
                worst = std::max(worst, std::abs(a.pcm[i] - b.pcm[i]));
            }
        }
    }
    const auto distinct = std::count(used.begin(), used.end(), true);
    std::printf("%s: %td of %td codes differ (%td distinct), sound differs by %.1e of %.2f\n", name.c_str(), other, codes,
                static_cast<Size>(distinct), static_cast<double>(worst), static_cast<double>(loudest));
    require(distinct > 20 && loudest > 1e-3f, name + ": the network does something");
    require(other * 200 <= codes, name + ": codes are those of the other kernels");
    require(worst <= 1e-5f * std::max(1.0f, loudest), name + ": sound is that of the other kernels");
}

std::shared_ptr<const Network> build(const Shaped& shaped, const std::string& kernels, Format precision = Format::fp32) {
    return std::make_shared<const Network>(shaped.shape, Weights(shaped.shape, 1).tensors(), kernels, precision);
}

void check_streams() {
    for (const Shaped& shaped : SHAPES) {
        const Sounds portable = alone(build(shaped, "portable"));
        const auto halves = build(shaped, "portable", Format::fp16);
        require(alone(halves) == portable, std::string(shaped.name) + ": fp16 keeps every bit");
        require(halves->weights_size() < build(shaped, "portable")->weights_size(), std::string(shaped.name) + ": fp16 is small");
        for (const std::string& kernels : kernel_names()) {
            const std::string name = std::string(shaped.name) + ", " + kernels;
            const auto network = build(shaped, kernels);
            const Sounds own = alone(network);
            check_company(network, own, name);
            check_copy_and_reset(network, own, name);
            check_close(portable, own, name);
            if (&shaped == &SHAPES[2]) continue;  // the slowest shape would test nothing new
            for (Format lower : {Format::bf16, Format::int8}) {
                const auto other = build(shaped, kernels, lower);
                check_company(other, alone(other), name + (lower == Format::bf16 ? ", bf16" : ", int8"));
            }
        }
    }
}

void check_threads() {
    for (const std::string& kernels : kernel_names()) {
        const auto network = build(SHAPES[1], kernels);
        const Sounds expected = alone(network);
        std::vector<Sounds> found(4);
        std::vector<std::thread> threads;
        for (Sounds& own : found) threads.emplace_back([&] { own = alone(network); });
        for (std::thread& thread : threads) thread.join();
        for (const Sounds& own : found) require(own == expected, kernels + ": threads disturb each other");
        std::printf("%s: four threads give what one gives\n", kernels.c_str());
    }
}

template <class Each>
void walk(Sounds& sounds, Each each) {
    for (auto& stream : sounds)
        for (Sound& sound : stream) {
            each(reinterpret_cast<char*>(sound.codes.data()), sound.codes.size() * sizeof(std::int16_t));
            each(reinterpret_cast<char*>(sound.pcm.data()), sound.pcm.size() * sizeof(float));
        }
}

void save(const char* path) {
    std::ofstream file(path, std::ios::binary);
    for (const Shaped& shaped : SHAPES) {
        Sounds sounds = alone(build(shaped, "portable"));
        walk(sounds, [&](const char* data, std::size_t size) { file.write(data, static_cast<std::streamsize>(size)); });
    }
    require(file.flush().good(), std::string("cannot write ") + path);
}

void compare(const char* path) {
    std::ifstream file(path, std::ios::binary);
    for (const Shaped& shaped : SHAPES) {
        const Sounds own = alone(build(shaped, "auto"));
        Sounds theirs = own;
        walk(theirs, [&](char* data, std::size_t size) { file.read(data, static_cast<std::streamsize>(size)); });
        require(file.good(), std::string("cannot read ") + path);
        check_close(theirs, own, std::string(shaped.name) + ", here and in " + path);
    }
}

}  // namespace

int main(int count, char** words) {
    const std::string what = count > 1 ? words[1] : "";
    if (what == "streams" && count == 2) check_streams();
    else if (what == "threads" && count == 2) check_threads();
    else if (what == "save" && count == 3) save(words[2]);
    else if (what == "compare" && count == 3) compare(words[2]);
    else return std::fprintf(stderr, "usage: check streams | threads | save FILE | compare FILE\n"), 2;
    return 0;
}
