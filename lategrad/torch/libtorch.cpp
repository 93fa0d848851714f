#include "lategrad/torch/libtorch.h"

#include <algorithm>

#include <ATen/Parallel.h>
#include <c10/util/Exception.h>

namespace lategrad {

void use_threads(int intra_op_threads) {
    // get_num_threads() also makes libtorch's one-time setting of a new thread happen now rather than inside the first
    // operation, where it would undo ours.
    if (at::get_num_threads() != intra_op_threads) at::set_num_threads(intra_op_threads);
}

std::string one_line(const std::exception& error) {
    const auto* ours = dynamic_cast<const c10::Error*>(&error);
    std::string text = ours ? ours->what_without_backtrace() : error.what();
    // The TorchScript interpreter puts a banner and a traceback before the error itself: "RuntimeError: what", or the
    // script's own exception by its class.
    if (const auto at = text.rfind("RuntimeError: "); at != std::string::npos) text.erase(0, at + 14);
    else if (text.find("TorchScript interpreter") != std::string::npos) {
        text.erase(text.find_last_not_of(" \n") + 1);
        text.erase(0, text.rfind('\n') + 1);
    }
    text.erase(std::min(text.find('\n'), text.size()));
    return text;
}

} // namespace lategrad
