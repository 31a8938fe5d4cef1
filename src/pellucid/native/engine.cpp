#include "engine.hpp"

#include <algorithm>
#include <stdexcept>
#include <string>
#include <unordered_set>

namespace pellucid {

Engine::Engine(std::shared_ptr<Runtime> runtime, const ModelConfig& config, Precision precision,
               const FindTensor& find, std::size_t capacity_tokens)
    : runtime_(std::move(runtime)),
      model_(config, precision, find),
      cache_({config.n_layer, config.n_head, config.head_dim(), precision != Precision::float32}, capacity_tokens) {}

KvCache::Slot Engine::open() {
    const std::lock_guard lock(mutex_);
    return cache_.open();
}

KvCache::Slot Engine::fork(KvCache::Slot slot) {
    const std::lock_guard lock(mutex_);
    return cache_.fork(slot);
}

void Engine::drop(KvCache::Slot slot) {
    const std::lock_guard lock(mutex_);
    cache_.drop(slot);
}

void Engine::truncate(KvCache::Slot slot, std::size_t length) {
    const std::lock_guard lock(mutex_);
    cache_.truncate(slot, length);
}

std::size_t Engine::length(KvCache::Slot slot) {
    const std::lock_guard lock(mutex_);
    return cache_.length(slot);
}

void Engine::check(std::span<const KvCache::Slot> slots, std::span<const std::vector<std::int32_t>> tokens) const {
    const ModelConfig& config = model_.config();
    const std::unordered_set<KvCache::Slot> distinct(slots.begin(), slots.end());
    if (distinct.size() != slots.size() || slots.size() != tokens.size()) {
        throw std::invalid_argument("a step needs distinct slots and one list of tokens for each");
    }
    for (std::size_t i = 0; i < slots.size(); ++i) {
        const std::size_t length = cache_.length(slots[i]), count = tokens[i].size();
        if (count == 0) throw std::invalid_argument("no token given for slot " + std::to_string(slots[i]));
        if (length + count > config.n_positions) {
            throw ContextTooLong(std::to_string(length) + " + " + std::to_string(count) +
                                 " tokens do not fit in the model's " + std::to_string(config.n_positions) +
                                 " positions");
        }
        for (const std::int32_t token : tokens[i]) {
            if (token < 0 || static_cast<std::size_t>(token) >= config.vocab_size) {
                throw std::invalid_argument("slot " + std::to_string(slots[i]) + " is given id " +
                                            std::to_string(token) + "; this model's ids are 0 to " +
                                            std::to_string(config.vocab_size - 1));
            }
        }
    }
}

void Engine::step(std::span<const KvCache::Slot> slots, std::span<const std::vector<std::int32_t>> tokens,
                  const Outputs& outputs) {
    const std::lock_guard lock(mutex_);
    check(slots, tokens);
    std::vector<Segment> segments;
    std::vector<KvCache::Growth> growths;
    for (std::size_t i = 0; i < slots.size(); ++i) {
        segments.push_back({slots[i], tokens[i], cache_.length(slots[i])});
        growths.push_back({slots[i], tokens[i].size()});
    }
    cache_.grow(growths);
    model_.forward(segments, cache_, outputs, *runtime_);
}

}  // namespace pellucid
