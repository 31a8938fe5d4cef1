#include "logits.hpp"

#include <algorithm>
#include <functional>
#include <limits>
#include <vector>

#include "runtime.hpp"

namespace pellucid {
namespace {

using Place = std::int64_t;

// The k-th largest, 1 <= k <= size, of values that are put in another order.
float kth_largest_of(std::vector<float>& values, std::size_t k) {
    const auto place = values.begin() + static_cast<std::ptrdiff_t>(k - 1);
    std::nth_element(values.begin(), place, values.end(), std::greater<>());
    return *place;
}

}  // namespace

LogitsPasses::LogitsPasses(const std::string& instruction_set) : kernels_(kernels_named(instruction_set)) {}

LogitsSurvey LogitsPasses::survey(std::span<const float> logits) const {
    return kernels_.survey(logits.data(), logits.size());
}

std::vector<Place> LogitsPasses::largest(std::span<const float> values, std::size_t k) const {
    // Seen as rows, the values' k-th largest is no smaller than the k-th largest of their columns' maxima: what is
    // smaller than that need not be looked at, and few columns hold anything else.
    constexpr std::size_t rows = 64;
    const std::size_t width = values.size() / rows;
    std::vector<float> maxima(width);
    kernels_.column_maxima(values.data(), rows, width, maxima.data());
    float floor = -std::numeric_limits<float>::infinity();
    if (k <= width) {
        std::vector<float> ranked = maxima;
        floor = kth_largest_of(ranked, k);
    }

    std::vector<Place> places;
    std::vector<float> pool;
    const auto look = [&](std::size_t place) {
        if (values[place] < floor) return;
        places.push_back(static_cast<Place>(place));
        pool.push_back(values[place]);
    };
    for (std::size_t column = 0; column < width; ++column) {
        if (maxima[column] < floor) continue;
        for (std::size_t row = 0; row < rows; ++row) look(row * width + column);
    }
    for (std::size_t place = rows * width; place < values.size(); ++place) look(place);

    const float kth = kth_largest_of(pool, k);
    std::erase_if(places, [&](Place place) { return values[static_cast<std::size_t>(place)] < kth; });
    std::sort(places.begin(), places.end());
    return places;
}

}  // namespace pellucid
