/// libtorch's headers, precompiled: all of this folder and its tests include them through here. glog, which comes with
/// them, has a CHECK of its own; ours stays.
#pragma once

#pragma push_macro("CHECK")
#undef CHECK
#include <ATen/Version.h>
#include <torch/script.h>
#include <torch/torch.h>
#undef CHECK
#pragma pop_macro("CHECK")

#include "lategrad/core/error.h"
