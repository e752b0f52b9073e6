// What one core of this processor does at best, for the floor that engines are measured against (lab/benchmark/floor.py).
// Whoever calls these keeps the time.
#pragma once

#include <cstddef>
#include <string>

namespace earshot {

// Does `rounds` rounds of a loop of multiply-adds whose operands stay in registers, on the widest vectors of this processor.
// `precision`: fp32, bf16 or int8. Returns how many multiply-adds that were, 0 where there is no instruction for them.
double multiply_adds(const std::string& precision, std::ptrdiff_t rounds);

// Reads `size` floats once and returns their sum.
float read_once(const float* data, std::ptrdiff_t size);

}  // namespace earshot
