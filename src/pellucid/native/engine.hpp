#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "fork_safety.hpp"
#include "kv_cache.hpp"
#include "model.hpp"
#include "runtime.hpp"
#include "slot.hpp"

namespace pellucid {

class ContextTooLong : public std::invalid_argument {
public:
    using std::invalid_argument::invalid_argument;
};

// A model, its cache and its threads. Thread-safe: a mutex serializes calls. Slots keep the engine alive, so it is
// owned by a shared_ptr. A forked child can use the engine, with one thread. If another thread was in a step during the
// fork, the child sees the slots as they were before that step.
//
// Methods throw UnknownSlot for a dropped slot and for a slot of another engine.
class Engine : public std::enable_shared_from_this<Engine> {
public:
    // Throws what the constructors of Model and KvCache throw.
    Engine(std::shared_ptr<Runtime> runtime, const ModelConfig& config, Precision precision, const FindTensor& find,
           std::size_t capacity_tokens);

    const ModelConfig& config() const { return model_.config(); }
    std::size_t capacity() const { return cache_.capacity(); }
    const char* instruction_set() const { return runtime_->kernels().name; }
    std::size_t threads() const { return runtime_->pool().threads(); }
    std::size_t open_slots() const { return open_slots_.load(std::memory_order_relaxed); }

    std::unique_ptr<Slot> open();
    std::unique_ptr<Slot> fork(const Slot& slot);
    // Drops a slot without waiting for its destructor. During another thread's step the slot is queued, and its memory
    // is freed before the next call.
    void drop(Slot& slot);
    void truncate(const Slot& slot, std::size_t length);
    std::size_t length(const Slot& slot);

    // The identifier that `step` takes for a slot.
    KvCache::Id id_of(const Slot& slot) const;

    // Appends tokens[i], one or more, to slots[i], and writes the outputs.
    // Strong exception safety: a step that throws has appended nothing. Throws UnknownSlot, ContextTooLong, CacheFull,
    // std::bad_alloc, or std::invalid_argument for duplicate slots, a number of token lists that differs from the
    // number of slots, ids outside the vocabulary, and outputs of the wrong size.
    void step(std::span<const KvCache::Id> slots, std::span<const std::vector<std::int32_t>> tokens,
              const Outputs& outputs);

private:
    friend class Slot;

    std::unique_lock<std::mutex> lock();
    void empty_queue() noexcept;
    void drop_later(std::unique_ptr<DropQueue::Entry> entry) noexcept;
    void check(std::span<const KvCache::Id> slots, std::span<const std::vector<std::int32_t>> tokens,
               const Outputs& outputs) const;

    ForkSafeMutex mutex_;
    std::shared_ptr<Runtime> runtime_;
    Model model_;
    KvCache cache_;
    DropQueue dropped_;
    std::atomic<std::size_t> open_slots_{0};
};

}  // namespace pellucid
