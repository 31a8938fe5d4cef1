#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "kernels.hpp"

namespace pellucid {

// Single-threaded passes over a row of logits, for decoding.
class LogitsPasses {
public:
    // instruction_set: as for kernels_named.
    explicit LogitsPasses(const std::string& instruction_set);

    // The number of groups in a row of `size` values; see run_length.
    static std::size_t groups(std::size_t size);

    // logits: at least one. maxima: [groups(size)], receives the group maxima.
    LogitsSurvey survey(std::span<const float> logits, std::span<float> maxima) const;

    std::vector<float> group_maxima(std::span<const float> values) const;

    // Returns the indices of all values that are at least the k-th largest one, in ascending order; 1 <= k <= size.
    // maxima: the group maxima of `values`. Throws std::invalid_argument if NaNs leave fewer than k values, or if
    // `maxima` are detected to be those of other values.
    std::vector<std::int64_t> largest(std::span<const float> values, std::size_t k,
                                      std::span<const float> maxima) const;

private:
    const KernelTable& kernels_;
};

}  // namespace pellucid
