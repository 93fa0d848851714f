/// The policies there are: a file each, a line here and a line in make_policy.
#pragma once

#include <memory>

#include "lategrad/policy/policy.h"

namespace lategrad {

std::unique_ptr<Policy> make_sync(const PolicyOptions& options);
std::unique_ptr<Policy> make_backup(const PolicyOptions& options);
std::unique_ptr<Policy> make_reuse(const PolicyOptions& options);
std::unique_ptr<Policy> make_kasync(const PolicyOptions& options);
std::unique_ptr<Policy> make_kbatch(const PolicyOptions& options);
std::unique_ptr<Policy> make_async(const PolicyOptions& options);
std::unique_ptr<Policy> make_ssp(const PolicyOptions& options);

} // namespace lategrad
