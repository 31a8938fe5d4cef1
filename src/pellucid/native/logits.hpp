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

    // How many groups a row has; see run_length.
    static std::size_t groups(std::size_t size);

    // Of at least one logit. maxima: [groups(size)], where to put the groups' maxima.
    LogitsSurvey survey(std::span<const float> logits, std::span<float> maxima) const;

    std::vector<float> group_maxima(std::span<const float> values) const;

    // Where the k largest of the values stand, and all that equal the k-th, in ascending order; 1 <= k <= size.
    // maxima: their groups'. Raises std::invalid_argument where the values have no k-th largest because some are NaN,
    // and for maxima that are not the values' and leave too few.
    std::vector<std::int64_t> largest(std::span<const float> values, std::size_t k,
                                      std::span<const float> maxima) const;

private:
    const KernelTable& kernels_;
};

}  // namespace pellucid
