// The Python module _integer_lm: the language model of codec/lm/integer_lm.py, number for number.
// Products of 16 bits are summed in 32 bits. LmWeights has checked that no sum can overflow, so the
// order of the additions does not matter.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace py = pybind11;

namespace {

using std::int16_t;
using std::int8_t;
using std::int32_t;
using std::int64_t;
using std::size_t;
template <class T>
using Array = py::array_t<T, py::array::c_style>;

constexpr int FRACTION = 10, SHIFT = 24, RANGE = 24, LEAST = 2, DEEPEST = 40, MOST = 32767;

void require(bool condition, const char* message) {
    if (!condition) throw std::invalid_argument(message);
}

// Computes sums[o] = weight[o] . x.
#define SUM_ROWS                                                                                          \
    for (size_t o = 0; o < outputs; o++) {                                                                \
        int32_t sum = 0;                                                                                  \
        for (size_t i = 0; i < inputs; i++) sum += static_cast<int32_t>(weight[o * inputs + i]) * x[i];    \
        sums[o] = sum;                                                                                    \
    }
using Rows = void (*)(const int8_t* weight, const int16_t* x, size_t outputs, size_t inputs, int32_t* sums);
void rows_portable(const int8_t* weight, const int16_t* x, size_t outputs, size_t inputs, int32_t* sums) { SUM_ROWS }
#if defined(__GNUC__) && defined(__x86_64__)
#define EARSHOT_X86 1
__attribute__((target("avx2"))) void rows_avx2(const int8_t* weight, const int16_t* x, size_t outputs, size_t inputs,
                                               int32_t* sums) { SUM_ROWS }
__attribute__((target("avx512f,avx512bw,avx512vl,prefer-vector-width=512"))) void rows_avx512(
    const int8_t* weight, const int16_t* x, size_t outputs, size_t inputs, int32_t* sums) { SUM_ROWS }
#endif

std::vector<std::pair<std::string, Rows>> kernels() {  // the fastest first
    std::vector<std::pair<std::string, Rows>> found;
#ifdef EARSHOT_X86
    if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl")) found.emplace_back("avx512", rows_avx512);
    if (__builtin_cpu_supports("avx2")) found.emplace_back("avx2", rows_avx2);
#endif
    found.emplace_back("portable", rows_portable);
    return found;
}

std::vector<std::string> kernel_names() {
    std::vector<std::string> names;
    for (const auto& [name, rows] : kernels()) names.push_back(name);
    return names;
}

struct Layer {
    size_t outputs = 0, inputs = 0;
    std::vector<int8_t> weight;
    std::vector<int32_t> scale, bias;
};

struct Tower {
    Layer enter;
    std::vector<Layer> look, add;
    std::vector<size_t> dilations;
};

struct Head {
    Layer mix, narrow, out;
};

int64_t rescaled(int64_t sum, int64_t scale) { return (sum * scale + (int64_t{1} << (SHIFT - 1))) >> SHIFT; }
int16_t cut(int64_t x) { return static_cast<int16_t>(std::clamp<int64_t>(x, -MOST, MOST)); }
int16_t cut_positive(int64_t x) { return static_cast<int16_t>(std::clamp<int64_t>(x, 0, MOST)); }

class Model {
  public:
    std::vector<size_t> groups;
    size_t card, embed, channels, hidden;
    std::vector<Tower> towers;
    std::vector<Head> heads;
    std::vector<int16_t> embeddings;  // [n_q, card, embed]
    std::vector<int64_t> powers;
    Rows rows = rows_portable;
    std::string kernel_name;

    Model(const py::dict& shape, const py::dict& arrays, const Array<int64_t>& table, const Array<int64_t>& halves,
          const std::string& wanted)
        : groups(shape["groups"].cast<std::vector<size_t>>()),
          card(shape["card"].cast<size_t>()),
          embed(shape["embed"].cast<size_t>()),
          channels(shape["channels"].cast<size_t>()),
          hidden(shape["hidden"].cast<size_t>()),
          powers(halves.data(), halves.data() + halves.size()) {
        require(!groups.empty() && powers.size() == size_t{1} << FRACTION, "a shape without groups, or other powers");
        require(static_cast<size_t>(table.size()) == n_q() * card * embed, "embeddings are of another size");
        for (const int64_t value : std::vector<int64_t>(table.data(), table.data() + table.size()))
            embeddings.push_back(cut(value));
        const auto dilations = shape["dilations"].cast<std::vector<std::vector<size_t>>>();
        require(dilations.size() == groups.size(), "a tower for each group");
        for (size_t g = 0; g < groups.size(); g++) {
            const std::string name = "towers." + std::to_string(g);
            Tower tower;
            tower.enter = layer(arrays, name + ".enter", channels, g ? 2 * embed + channels : embed);
            for (size_t b = 0; b < dilations[g].size(); b++) {
                require(dilations[g][b] > 0, "a dilation of 0");
                const std::string block = name + ".blocks." + std::to_string(b);
                tower.look.push_back(layer(arrays, block + ".look", channels, 2 * channels));
                tower.add.push_back(layer(arrays, block + ".add", channels, channels));
            }
            tower.dilations = dilations[g];
            towers.push_back(std::move(tower));
        }
        for (size_t q = 0; q < n_q(); q++) {
            const std::string name = "heads." + std::to_string(q);
            heads.push_back({layer(arrays, name + ".mix", hidden, channels + embed),
                             layer(arrays, name + ".narrow", embed, hidden), layer(arrays, name + ".out", card, embed)});
        }
        for (const auto& [name, kernel] : kernels())
            if (kernel_name.empty() && (wanted == "auto" || wanted == name)) kernel_name = name, rows = kernel;
        require(!kernel_name.empty(), "there are no such kernels on this machine");
    }

    size_t n_q() const { return groups.back(); }
    size_t group(size_t q) const {
        size_t g = 0;
        while (q >= groups[g]) g++;
        return g;
    }

  private:
    static Layer layer(const py::dict& arrays, const std::string& name, size_t outputs, size_t inputs) {
        const auto weight = arrays[(name + ".weight").c_str()].cast<Array<int8_t>>();
        const auto scale = arrays[(name + ".scale").c_str()].cast<Array<int32_t>>();
        const auto bias = arrays[(name + ".bias").c_str()].cast<Array<int32_t>>();
        const auto size = [](const auto& array) { return static_cast<size_t>(array.size()); };
        require(size(weight) == outputs * inputs && size(scale) == outputs && size(bias) == outputs, "a layer's shape");
        return {outputs, inputs, {weight.data(), weight.data() + weight.size()}, {scale.data(), scale.data() + scale.size()},
                {bias.data(), bias.data() + bias.size()}};
    }
};

// The whole state of one stream.
struct Stream {
    std::vector<int16_t> tower;
    std::vector<int32_t> known;
    std::vector<std::vector<int32_t>> now, past;
    std::vector<std::vector<std::vector<int16_t>>> before;  // [group][block][dilation * channels]
};

class Streams {
  public:
    Streams(std::shared_ptr<const Model> model, size_t count) : model_(std::move(model)), streams_(count) {
        require(count > 0, "no streams");
        reset();
    }
    Streams(const Streams& other)
        : model_(other.model_), streams_(other.streams_), frame_(other.frame_), q_(other.q_), done_(other.done_) {}

    void reset() {
        const Use use(*this);
        const size_t groups = model_->groups.size();
        for (Stream& s : streams_) {
            s.tower.assign(model_->channels, 0);
            s.known.assign(model_->embed, 0);
            s.now.assign(groups, std::vector<int32_t>(model_->embed, 0));
            s.past = s.now;
            s.before.assign(groups, {});
            for (size_t g = 0; g < groups; g++)
                for (size_t dilation : model_->towers[g].dilations)
                    s.before[g].emplace_back(dilation * model_->channels, int16_t{0});
        }
        frame_.assign(groups, 0);
        q_ = 0;
        done_ = -1;
    }

    Array<int64_t> cdf() {
        require(q_ < model_->n_q(), "this language model knows no further codebook");
        const size_t card = model_->card;
        Array<int64_t> result(std::vector<size_t>{streams_.size(), card});
        int64_t* to = result.mutable_data();
        const Use use(*this);
        const py::gil_scoped_release release;
        climb();
        const Head& head = model_->heads[q_];
        std::vector<int16_t> x(model_->channels + model_->embed), mixed(model_->hidden), narrow(model_->embed);
        std::vector<int64_t> logits(card);
        for (size_t b = 0; b < streams_.size(); b++) {
            const Stream& s = streams_[b];
            std::copy(s.tower.begin(), s.tower.end(), x.begin());
            std::transform(s.known.begin(), s.known.end(), x.begin() + static_cast<std::ptrdiff_t>(model_->channels), cut);
            run(head.mix, x.data(), mixed.data(), cut_positive);
            run(head.narrow, mixed.data(), narrow.data(), cut);
            run(head.out, narrow.data(), logits.data(), [](int64_t value) { return value; });
            parts(logits, to + b * card);
        }
        return result;
    }

    void push(const Array<int64_t>& codes) {
        require(static_cast<size_t>(codes.size()) == streams_.size(), "a code for each stream");
        require(q_ < model_->n_q(), "this language model knows no further codebook");
        for (size_t b = 0; b < streams_.size(); b++)
            require(codes.data()[b] >= 0 && static_cast<size_t>(codes.data()[b]) < model_->card, "a code is out of range");
        const Use use(*this);
        climb();
        for (size_t b = 0; b < streams_.size(); b++) {
            Stream& s = streams_[b];
            const int16_t* found =
                model_->embeddings.data() + (q_ * model_->card + static_cast<size_t>(codes.data()[b])) * model_->embed;
            std::vector<int32_t>& now = s.now[static_cast<size_t>(done_)];
            for (size_t i = 0; i < model_->embed; i++) s.known[i] += found[i], now[i] += found[i];
        }
        q_++;
    }

    void end_frame() {
        const Use use(*this);
        for (Stream& s : streams_) {
            std::swap(s.past, s.now);
            for (auto& sums : s.now) std::fill(sums.begin(), sums.end(), 0);
            std::fill(s.known.begin(), s.known.end(), 0);
        }
        q_ = 0;
        done_ = -1;
    }

  private:
    // Two threads that step the same streams would damage them: the second is refused.
    class Use {
      public:
        explicit Use(Streams& streams) : streams_(streams) {
            require(!streams_.busy_.exchange(true), "these streams are in the middle of a step");
        }
        ~Use() { streams_.busy_ = false; }
        Use(const Use&) = delete;
        Use& operator=(const Use&) = delete;

      private:
        Streams& streams_;
    };

    template <class T, class Limit>
    void run(const Layer& layer, const int16_t* x, T* y, Limit limit) {
        sums_.resize(layer.outputs);
        model_->rows(layer.weight.data(), x, layer.outputs, layer.inputs, sums_.data());
        for (size_t o = 0; o < layer.outputs; o++)
            y[o] = static_cast<T>(limit(rescaled(sums_[o], layer.scale[o]) + layer.bias[o]));
    }

    // Computes the tower of the next codebook's group for this frame, unless that is done.
    void climb() {
        const size_t g = model_->group(q_), C = model_->channels, E = model_->embed;
        if (done_ == static_cast<std::ptrdiff_t>(g)) return;
        const Tower& tower = model_->towers[g];
        std::vector<int16_t> in(tower.enter.inputs), x(C), pair(2 * C), y(C);
        std::vector<int64_t> added(C);
        for (Stream& s : streams_) {
            std::transform(s.past[g].begin(), s.past[g].end(), in.begin(), cut);
            if (g) {
                const auto known = in.begin() + static_cast<std::ptrdiff_t>(E);
                std::copy(s.tower.begin(), s.tower.end(), std::transform(s.known.begin(), s.known.end(), known, cut));
            }
            run(tower.enter, in.data(), x.data(), cut);
            for (size_t i = 0; i < tower.look.size(); i++) {
                int16_t* before = s.before[g][i].data() + frame_[g] % tower.dilations[i] * C;
                std::copy(before, before + C, pair.begin());
                std::copy(x.begin(), x.end(), pair.begin() + static_cast<std::ptrdiff_t>(C));
                std::copy(x.begin(), x.end(), before);
                run(tower.look[i], pair.data(), y.data(), cut_positive);
                run(tower.add[i], y.data(), added.data(), [](int64_t value) { return value; });
                for (size_t c = 0; c < C; c++) x[c] = cut(x[c] + added[c]);
            }
            s.tower = x;
        }
        done_ = static_cast<std::ptrdiff_t>(g);
        frame_[g]++;
    }

    void parts(std::vector<int64_t>& logits, int64_t* to) const {
        const int64_t most = *std::max_element(logits.begin(), logits.end());
        int64_t sum = 0;
        for (int64_t& value : logits) {
            const int64_t below = std::min(most - value, int64_t{DEEPEST} << FRACTION);
            value = model_->powers[static_cast<size_t>(below & ((1 << FRACTION) - 1))] >> (below >> FRACTION);
            sum += value;
        }
        const int64_t share = (int64_t{1} << RANGE) - LEAST * static_cast<int64_t>(logits.size());
        int64_t end = 0;
        for (const int64_t value : logits) *to++ = end += value * share / sum + LEAST;
    }

    std::shared_ptr<const Model> model_;
    std::vector<Stream> streams_;
    std::vector<size_t> frame_;
    size_t q_ = 0;
    std::ptrdiff_t done_ = -1;
    std::vector<int32_t> sums_;
    std::atomic<bool> busy_{false};
};

}  // namespace

PYBIND11_MODULE(_integer_lm, module) {
    module.def("kernel_names", &kernel_names);
    py::class_<Model, std::shared_ptr<Model>>(module, "Model")
        .def(py::init<const py::dict&, const py::dict&, const Array<int64_t>&, const Array<int64_t>&, const std::string&>(),
             py::arg("shape"), py::arg("arrays"), py::arg("embeddings"), py::arg("powers"), py::arg("kernels"))
        .def_property_readonly("kernels", [](const Model& model) { return model.kernel_name; })
        .def("streams", [](std::shared_ptr<const Model> model, size_t count) {
            return std::make_unique<Streams>(std::move(model), count);
        }, py::arg("count") = 1);
    py::class_<Streams>(module, "Streams")
        .def("reset", &Streams::reset)
        .def("copy", [](const Streams& streams) { return std::make_unique<Streams>(streams); })
        .def("cdf", &Streams::cdf)
        .def("push", &Streams::push, py::arg("codes"))
        .def("end_frame", &Streams::end_frame);
}
