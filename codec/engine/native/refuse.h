// How the engine refuses what it was given.
#pragma once

#include <stdexcept>
#include <string>

namespace earshot {

// Throws std::invalid_argument. Where the engine is compiled without exceptions, as for WebAssembly,
// whoever links it defines the function; it may not return.
#if defined(__cpp_exceptions) || defined(_CPPUNWIND)
[[noreturn]] inline void refuse(const std::string& why) { throw std::invalid_argument(why); }
#else
[[noreturn]] void refuse(const std::string& why);
#endif

}  // namespace earshot
