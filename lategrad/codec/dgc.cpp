#include "lategrad/codec/dgc.h"

#include <algorithm>
#include <cmath>

namespace lategrad {

double DgcRule::share_at(double epoch) const {
    return epoch < kWarmUpEpochs ? std::max(share(), std::pow(0.25, std::floor(epoch) + 1)) : share();
}

} // namespace lategrad
