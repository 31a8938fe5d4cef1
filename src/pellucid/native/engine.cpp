#include "engine.hpp"

#include <algorithm>
#include <stdexcept>
#include <string>
#include <unordered_set>
#include <utility>

namespace pellucid {

Engine::Engine(std::shared_ptr<Runtime> runtime, const ModelConfig& config, Precision precision,
               const FindTensor& find, std::size_t capacity_tokens)
    : runtime_(std::move(runtime)),
      model_(config, precision, find),
      cache_({config.n_layer, config.n_head, config.head_dim(), precision != Precision::float32}, capacity_tokens) {
    watch_forks();
}

std::unique_lock<std::mutex> Engine::lock() {
    std::unique_lock<std::mutex> held = mutex_.lock();
    empty_queue();
    return held;
}

void Engine::empty_queue() noexcept {
    const auto unforked = hold_off_forks();
    dropped_.take_all([this](KvCache::Id id) { cache_.drop(id); });
}

void Engine::drop_later(std::unique_ptr<DropQueue::Entry> entry) noexcept {
    dropped_.add(std::move(entry));
    open_slots_.fetch_sub(1, std::memory_order_relaxed);
}

std::unique_ptr<Slot> Engine::open() {
    std::unique_ptr<Slot> slot(new Slot(shared_from_this()));
    const auto held = lock();
    const auto unforked = hold_off_forks();
    slot->hold(cache_.open());
    open_slots_.fetch_add(1, std::memory_order_relaxed);
    return slot;
}

std::unique_ptr<Slot> Engine::fork(const Slot& slot) {
    std::unique_ptr<Slot> twin(new Slot(shared_from_this()));
    const auto held = lock();
    const auto unforked = hold_off_forks();
    twin->hold(cache_.fork(id_of(slot)));
    open_slots_.fetch_add(1, std::memory_order_relaxed);
    return twin;
}

void Engine::drop(Slot& slot) {
    id_of(slot);
    slot.drop();
    if (const std::unique_lock<std::mutex> held = mutex_.try_lock()) empty_queue();
}

void Engine::truncate(const Slot& slot, std::size_t length) {
    const auto held = lock();
    const auto unforked = hold_off_forks();
    cache_.truncate(id_of(slot), length);
}

std::size_t Engine::length(const Slot& slot) {
    const auto held = lock();
    return cache_.length(id_of(slot));
}

KvCache::Id Engine::id_of(const Slot& slot) const {
    if (&slot.engine() != this) throw UnknownSlot("the slot is another engine's");
    return slot.id();
}

void Engine::check(std::span<const KvCache::Id> slots, std::span<const std::vector<std::int32_t>> tokens,
                   const Outputs& outputs) const {
    const ModelConfig& config = model_.config();
    const std::unordered_set<KvCache::Id> distinct(slots.begin(), slots.end());
    if (slots.empty() || distinct.size() != slots.size() || slots.size() != tokens.size()) {
        throw std::invalid_argument("a step needs at least one slot, distinct slots, and one list of tokens for each");
    }
    std::size_t total = 0;
    for (std::size_t i = 0; i < slots.size(); ++i) {
        const std::size_t length = cache_.length(slots[i]), count = tokens[i].size();
        total += count;
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
    const std::size_t rows = outputs.all_positions ? total : slots.size();
    if (outputs.logits.size() != rows * config.vocab_size) {
        throw std::invalid_argument("logits has " + std::to_string(outputs.logits.size()) +
                                    " numbers; this step gives " + std::to_string(rows) + " rows of " +
                                    std::to_string(config.vocab_size));
    }
    if (!outputs.hidden.empty() && outputs.hidden.size() != rows * config.n_embd) {
        throw std::invalid_argument("hidden has " + std::to_string(outputs.hidden.size()) +
                                    " numbers; this step gives " + std::to_string(rows) + " rows of " +
                                    std::to_string(config.n_embd));
    }
}

void Engine::step(std::span<const KvCache::Id> slots, std::span<const std::vector<std::int32_t>> tokens,
                  const Outputs& outputs) {
    const auto held = lock();
    check(slots, tokens, outputs);
    std::vector<Segment> segments;
    std::vector<KvCache::Growth> growths;
    std::size_t total = 0, positions = 0;
    for (std::size_t i = 0; i < slots.size(); ++i) {
        const std::size_t length = cache_.length(slots[i]), count = tokens[i].size();
        segments.push_back({tokens[i], length, {}});
        growths.push_back({slots[i], count});
        total += count;
        positions = std::max(positions, length + count);
    }
    {
        const auto unforked = hold_off_forks();
        model_.reserve(total, positions, *runtime_);
        cache_.make_room(growths);
    }
    // Nothing below allocates or throws.
    for (std::size_t i = 0; i < slots.size(); ++i) segments[i].pages = cache_.pages(slots[i]);
    model_.forward(segments, cache_.shape(), outputs, *runtime_);
    const auto unforked = hold_off_forks();
    cache_.grow(growths);
}

}  // namespace pellucid
