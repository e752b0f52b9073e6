#include "kernels.h"

#include "refuse.h"

namespace earshot {

namespace {

const Kernels* const ALL[] = {
#ifdef EARSHOT_BF16
    &AVX512_BF16,
#endif
#ifdef EARSHOT_X86
    &AVX512,
    &AVX2,
#endif
    &PORTABLE,
};

}  // namespace

std::vector<std::string> kernel_names() {
    std::vector<std::string> names;
    for (const Kernels* kernels : ALL)
        if (kernels->supported()) names.emplace_back(kernels->name);
    return names;
}

const Kernels& find_kernels(const std::string& name) {
    std::string known;
    for (const Kernels* kernels : ALL) {
        if (!kernels->supported()) continue;
        if (name == "auto" || name == kernels->name) return *kernels;
        known += std::string(known.empty() ? "" : ", ") + kernels->name;
    }
    refuse("there are no kernels '" + name + "' for this processor; it has: auto, " + known);
}

}  // namespace earshot
