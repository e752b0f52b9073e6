// The Python module _native. It checks every argument: whatever a caller passes, nothing is read or
// written out of bounds. engine.py gives the errors their meaning.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <atomic>
#include <cmath>
#include <stdexcept>

#include "network.h"
#include "peak_binding.h"

namespace py = pybind11;
using namespace earshot;

namespace {

template <class T>
using Array = py::array_t<T, py::array::c_style>;
using States = std::vector<State*>;

void require(bool condition, const char* message) {
    if (!condition) throw std::invalid_argument(message);
}

// Scratch of one thread. A second thread that uses it at the same time is refused.
class Workspace {
  public:
    class Use {
      public:
        explicit Use(Workspace& workspace) : workspace_(workspace) {
            require(!workspace.busy_.exchange(true), "a workspace belongs to one thread: it is in the middle of a step");
        }
        ~Use() { workspace_.busy_ = false; }
        Use(const Use&) = delete;
        Use& operator=(const Use&) = delete;

      private:
        Workspace& workspace_;
    };
    Scratch scratch;

  private:
    std::atomic<bool> busy_{false};
};

Format format(const std::string& precision) {
    if (precision == "fp32") return Format::fp32;
    if (precision == "bf16") return Format::bf16;
    require(precision == "int8", "there are the precisions fp32, bf16 and int8");
    return Format::int8;
}

std::shared_ptr<Network> make_network(const py::dict& shape, const py::dict& tensors, const std::string& kernels,
                                      const std::string& precision) {
    const auto number = [&](const char* name) { return shape[name].cast<Size>(); };
    const auto ratios = shape["ratios"].cast<std::vector<Size>>();
    const bool own_widths = shape.contains("widths") && !shape["widths"].is_none();
    const Size first = number("n_filters");
    require(first >= 1 && first <= 1 << 16, "the shape of the network is not of this family");
    Shape sizes{number("dimension"),
                number("kernel_size"),
                number("last_kernel_size"),
                number("residual_kernel_size"),
                number("n_residual_layers"),
                number("dilation_base"),
                number("compress"),
                number("lstm_layers"),
                number("n_codebooks"),
                number("codebook_size"),
                ratios,
                own_widths ? shape["widths"].cast<std::vector<Size>>() : Shape::doubled(first, ratios.size())};
    if (shape.contains("postfilter") && !shape["postfilter"].is_none()) {
        const auto exponents = shape["postfilter"].cast<std::array<float, 2>>();
        sizes.postfilter = true;
        sizes.fine = exponents[0];
        sizes.coarse = exponents[1];
    }
    Tensors all;
    std::vector<Array<float>> alive;
    for (const auto& item : tensors) {
        const auto array = py::cast<Array<float>>(item.second);
        alive.push_back(array);
        all.add(py::cast<std::string>(item.first), {array.data(), {array.shape(), array.shape() + array.ndim()}});
    }
    const Format lowest = format(precision);
    const py::gil_scoped_release release;
    return std::make_shared<Network>(sizes, all, kernels, lowest);
}

std::vector<float*> checked(const Network& network, Kind kind, const States& states) {
    std::vector<float*> floats;
    for (State* state : states) {
        require(state && &state->network() == &network && state->kind() == kind, "a state of another kind or network");
        for (float* other : floats) require(other != state->floats().data(), "the states of a step must be distinct");
        floats.push_back(state->floats().data());
    }
    return floats;
}

Size largest(const Network& network, const std::vector<Size>& n_q, std::size_t streams) {
    require(n_q.size() == streams, "a step needs n_q for each stream");
    Size most = 0;
    for (Size count : n_q) {
        require(count >= 1 && count <= network.shape().n_codebooks, "n_q is out of range");
        most = count > most ? count : most;
    }
    return most;
}

// Encodes pcm [B, hop] to codes [B, max(n_q)]; codes beyond a stream's own n_q are zero.
Array<std::int16_t> encode(const Network& network, Workspace& workspace, const States& states, const Array<float>& pcm,
                           const std::vector<Size>& n_q) {
    const auto floats = checked(network, Kind::encoder, states);
    const auto streams = static_cast<Size>(states.size());
    const Size row = largest(network, n_q, states.size());
    require(pcm.ndim() == 2 && pcm.shape(0) == streams && pcm.shape(1) == network.shape().hop(), "pcm is of another shape");
    for (Size i = 0; i < pcm.size(); i++) require(std::isfinite(pcm.data()[i]), "pcm must be finite");
    Array<std::int16_t> codes(std::vector<Size>{streams, row});
    std::int16_t* to = codes.mutable_data();
    std::memset(to, 0, static_cast<std::size_t>(codes.nbytes()));
    const Workspace::Use use(workspace);
    const py::gil_scoped_release release;
    network.encode(workspace.scratch, floats.data(), streams, pcm.data(), n_q.data(), to, row);
    return codes;
}

// Decodes codes [B, >= max(n_q)] to pcm [B, hop].
Array<float> decode(const Network& network, Workspace& workspace, const States& states, const Array<std::int16_t>& codes,
                    const std::vector<Size>& n_q) {
    const auto floats = checked(network, Kind::decoder, states);
    const auto streams = static_cast<Size>(states.size());
    const Size most = largest(network, n_q, states.size());
    require(codes.ndim() == 2 && codes.shape(0) == streams && codes.shape(1) >= most, "codes are of another shape");
    const Size row = codes.shape(1);
    for (Size s = 0; s < streams; s++)
        for (Size q = 0; q < n_q[static_cast<std::size_t>(s)]; q++) {
            const std::int16_t code = codes.data()[s * row + q];
            require(code >= 0 && code < network.shape().codebook_size, "a code is out of range");
        }
    Array<float> pcm(std::vector<Size>{streams, network.shape().hop()});
    float* to = pcm.mutable_data();
    const Workspace::Use use(workspace);
    const py::gil_scoped_release release;
    network.decode(workspace.scratch, floats.data(), streams, codes.data(), row, n_q.data(), to);
    return pcm;
}

py::bytes save(State& state) {
    return {reinterpret_cast<const char*>(state.floats().data()), state.floats().bytes()};
}

void restore(State& state, const py::bytes& data) {
    const auto saved = static_cast<std::string_view>(data);
    require(saved.size() == state.floats().bytes(), "the saved state is of another size");
    for (std::size_t i = 0; i < saved.size(); i += sizeof(float)) {
        float value;
        std::memcpy(&value, saved.data() + i, sizeof value);
        require(std::isfinite(value), "the saved state is not finite");
    }
    std::memcpy(state.floats().data(), saved.data(), saved.size());
}

}  // namespace

PYBIND11_MODULE(_native, module) {
    module.def("kernel_names", &kernel_names);
    bind_peak(module);
    py::class_<Workspace>(module, "Workspace").def(py::init<>());
    py::class_<State>(module, "State")
        .def("copy", [](const State& state) { return State(state); })
        .def("reset", [](State& state) { state.floats().clear(); })
        .def("save", &save)
        .def("restore", &restore);
    py::class_<Network, std::shared_ptr<Network>>(module, "Network")
        .def(py::init(&make_network), py::arg("shape"), py::arg("tensors"), py::arg("kernels"), py::arg("precision"))
        .def_property_readonly("kernels", [](const Network& network) { return network.kernels().name; })
        .def_property_readonly("bytes", [](const Network& network) { return network.weights_size() * sizeof(float); })
        .def_property_readonly("encoder_bytes",
                               [](const Network& network) { return network.state_size(Kind::encoder) * sizeof(float); })
        .def_property_readonly("decoder_bytes",
                               [](const Network& network) { return network.state_size(Kind::decoder) * sizeof(float); })
        .def("encoder", [](const std::shared_ptr<Network>& network) { return State(network, Kind::encoder); })
        .def("decoder", [](const std::shared_ptr<Network>& network) { return State(network, Kind::decoder); })
        .def("encode", &encode, py::arg("workspace"), py::arg("states"), py::arg("pcm"), py::arg("n_q"))
        .def("decode", &decode, py::arg("workspace"), py::arg("states"), py::arg("codes"), py::arg("n_q"));
}
