#pragma once

#include <pybind11/pybind11.h>

namespace earshot {

void bind_peak(pybind11::module_& module);

}  // namespace earshot
