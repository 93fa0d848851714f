#pragma once

#include <hwy/highway.h>

namespace lategrad {

/// Runs `body` once with the kernels of each instruction set this machine has.
template <class Body>
void on_every_simd_target(const Body& body) {
    for (const std::int64_t target : hwy::SupportedAndGeneratedTargets()) {
        hwy::SetSupportedTargetsForTest(target);
        hwy::GetChosenTarget().Update(hwy::SupportedTargets());
        body(hwy::TargetName(target));
    }
    hwy::SetSupportedTargetsForTest(0);
    hwy::GetChosenTarget().DeInit();
}

} // namespace lategrad
