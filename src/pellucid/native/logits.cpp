#include "logits.hpp"

#include <algorithm>
#include <functional>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <vector>

#include "runtime.hpp"

namespace pellucid {
namespace {

using Place = std::int64_t;

// Returns the k-th largest value, 1 <= k <= size. Reorders `values`.
float kth_largest_of(std::vector<float>& values, std::size_t k) {
    const auto place = values.begin() + static_cast<std::ptrdiff_t>(k - 1);
    std::nth_element(values.begin(), place, values.end(), std::greater<>());
    return *place;
}

}  // namespace

LogitsPasses::LogitsPasses(const std::string& instruction_set) : kernels_(kernels_named(instruction_set)) {}

std::size_t LogitsPasses::groups(std::size_t size) { return (size + run_length - 1) / run_length * panel_width; }

LogitsSurvey LogitsPasses::survey(std::span<const float> logits, std::span<float> maxima) const {
    return kernels_.survey(logits.data(), logits.size(), maxima.data());
}

std::vector<float> LogitsPasses::group_maxima(std::span<const float> values) const {
    std::vector<float> maxima(groups(values.size()));
    kernels_.group_maxima(values.data(), values.size(), maxima.data());
    return maxima;
}

std::vector<Place> LogitsPasses::largest(std::span<const float> values, std::size_t k,
                                         std::span<const float> maxima) const {
    // The k-th largest group maximum is a lower bound of the k-th largest value. Values below it are skipped, and with
    // them most groups.
    const auto refuse = [] { throw std::invalid_argument("a value is NaN, or these are not the row's maxima"); };
    if (maxima.size() != groups(values.size())) refuse();
    if (std::any_of(maxima.begin(), maxima.end(), [](float x) { return std::isnan(x); })) refuse();
    float floor = -std::numeric_limits<float>::infinity();
    if (k <= maxima.size()) {
        std::vector<float> ranked(maxima.begin(), maxima.end());
        floor = kth_largest_of(ranked, k);
    }
    std::vector<Place> places;
    std::vector<float> pool;
    for (std::size_t group = 0; group < maxima.size(); ++group) {
        if (maxima[group] < floor) continue;
        const std::size_t start = group / panel_width * run_length;
        const std::size_t end = std::min(start + run_length, values.size());
        for (std::size_t place = start + group % panel_width; place < end; place += panel_width) {
            if (!(values[place] >= floor)) continue;  // also skips NaN, which has no rank
            places.push_back(static_cast<Place>(place));
            pool.push_back(values[place]);
        }
    }
    if (pool.size() < k) refuse();
    const float kth = kth_largest_of(pool, k);
    std::erase_if(places, [&](Place place) { return values[static_cast<std::size_t>(place)] < kth; });
    std::sort(places.begin(), places.end());
    return places;
}

}  // namespace pellucid
