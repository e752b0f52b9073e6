// The part of the Python module that measures the machine.
#include "peak_binding.h"

#include <pybind11/numpy.h>

#include "peak.h"

namespace py = pybind11;

namespace earshot {

void bind_peak(py::module_& module) {
    module.def(
        "multiply_adds",
        [](const std::string& precision, std::ptrdiff_t rounds) {
            const py::gil_scoped_release release;
            return multiply_adds(precision, rounds);
        },
        py::arg("precision"), py::arg("rounds"));
    module.def(
        "read_once",
        [](const py::array_t<float, py::array::c_style>& floats) {
            const float* data = floats.data();
            const py::ssize_t size = floats.size();
            const py::gil_scoped_release release;
            return read_once(data, size);
        },
        py::arg("floats"));
}

}  // namespace earshot
