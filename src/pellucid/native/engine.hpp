#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "kv_cache.hpp"
#include "model.hpp"
#include "runtime.hpp"

namespace pellucid {

class ContextTooLong : public std::invalid_argument {
public:
    using std::invalid_argument::invalid_argument;
};

// A model, its cache and its threads, to be used from any thread: calls follow one another.
class Engine {
public:
    Engine(std::shared_ptr<Runtime> runtime, const ModelConfig& config, Precision precision, const FindTensor& find,
           std::size_t capacity_tokens);

    std::size_t capacity() const { return cache_.capacity(); }
    const char* instruction_set() const { return runtime_->kernels().name; }
    std::size_t threads() const { return runtime_->pool().threads(); }

    KvCache::Slot open();
    KvCache::Slot fork(KvCache::Slot slot);
    void drop(KvCache::Slot slot);
    void truncate(KvCache::Slot slot, std::size_t length);
    std::size_t length(KvCache::Slot slot);

    // Appends tokens[i], one or more, to slots[i] and writes what `outputs` asks for.
    // Raises before anything is appended: UnknownSlot, ContextTooLong, CacheFull, or std::invalid_argument for slots
    // that are not distinct, lists of tokens that do not match them, and ids that the model does not have.
    void step(std::span<const KvCache::Slot> slots, std::span<const std::vector<std::int32_t>> tokens,
              const Outputs& outputs);

private:
    void check(std::span<const KvCache::Slot> slots, std::span<const std::vector<std::int32_t>> tokens) const;

    std::mutex mutex_;
    std::shared_ptr<Runtime> runtime_;
    Model model_;
    KvCache cache_;
};

}  // namespace pellucid
