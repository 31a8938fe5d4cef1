#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "kernels.hpp"

namespace pellucid {

// Passes over the logits of a whole vocabulary, which decoding makes for every token; one thread.
class LogitsPasses {
public:
    // instruction_set: as Runtime's.
    explicit LogitsPasses(const std::string& instruction_set);

    // Of at least one logit.
    LogitsSurvey survey(std::span<const float> logits) const;

    // Where the k largest of the values stand, and all that equal the k-th, in ascending order; 1 <= k <= size, none
    // of the values NaN.
    std::vector<std::int64_t> largest(std::span<const float> values, std::size_t k) const;

private:
    const KernelTable& kernels_;
};

}  // namespace pellucid
