// Loops that show what one core of this processor can do at best. Engines are compared with it
// (lab/benchmark/floor.py). The caller keeps the time.
#pragma once

#include <cstddef>
#include <string>

namespace earshot {

// Does `rounds` rounds of a loop of multiply-adds whose operands stay in registers, on the widest
// vectors of this processor. `precision` is fp32, bf16 or int8. Returns how many multiply-adds that
// were, or 0 if there is no instruction for them.
double multiply_adds(const std::string& precision, std::ptrdiff_t rounds);

// Reads `size` floats once and returns their sum.
float read_once(const float* data, std::ptrdiff_t size);

}  // namespace earshot
