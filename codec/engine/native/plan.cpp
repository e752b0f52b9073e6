#include "plan.h"

#include "refuse.h"

namespace earshot {

namespace {

std::string text(const std::vector<Size>& shape) {
    std::string sizes;
    for (Size size : shape) sizes += (sizes.empty() ? "" : ", ") + std::to_string(size);
    return "[" + sizes + "]";
}

}  // namespace

const float* Tensors::get(const std::string& name, const std::vector<Size>& shape) const {
    const auto found = tensors_.find(name);
    if (found == tensors_.end()) refuse("the network has no tensor " + name);
    if (found->second.shape != shape)
        refuse(name + " is " + text(found->second.shape) + ", not " + text(shape));
    return found->second.data;
}

Window Window::open(const Step& step, Size state, Size kept, Size fresh) {
    const Window window{step.scratch.take(step.streams * (kept + fresh)), kept + fresh, kept};
    for (Size s = 0; s < step.streams; s++) std::memcpy(window.data + s * window.stream, step.states[s] + state, bytes(kept));
    return window;
}

void Window::keep_end(const Step& step, Size state) const {
    for (Size s = 0; s < step.streams; s++)
        std::memcpy(step.states[s] + state, data + (s + 1) * stream - kept, bytes(kept));
}

}  // namespace earshot
