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

// A model, its cache and its threads, to be used from any thread: calls follow one another. Held by a shared_ptr,
// because its slots keep it alive. A process that was forked, even during a step of another thread, finds the slots as
// they were before that step, and may use the engine, on one thread.
//
// Methods raise UnknownSlot for a slot that was dropped or is another engine's.
class Engine : public std::enable_shared_from_this<Engine> {
public:
    // Raises as Model and KvCache do.
    Engine(std::shared_ptr<Runtime> runtime, const ModelConfig& config, Precision precision, const FindTensor& find,
           std::size_t capacity_tokens);

    const ModelConfig& config() const { return model_.config(); }
    std::size_t capacity() const { return cache_.capacity(); }
    const char* instruction_set() const { return runtime_->kernels().name; }
    std::size_t threads() const { return runtime_->pool().threads(); }
    std::size_t open_slots() const { return open_slots_.load(std::memory_order_relaxed); }

    std::unique_ptr<Slot> open();
    std::unique_ptr<Slot> fork(const Slot& slot);
    // Drops a slot before its destructor does. Does not wait for another thread's step: the memory is then free for
    // the next one.
    void drop(Slot& slot);
    void truncate(const Slot& slot, std::size_t length);
    std::size_t length(const Slot& slot);

    // What `step` knows a slot by.
    KvCache::Id id_of(const Slot& slot) const;

    // Appends tokens[i], one or more, to slots[i] and writes what `outputs` asks for.
    // Strong exception safety: a step that raises has appended nothing. Raises UnknownSlot, ContextTooLong, CacheFull,
    // std::bad_alloc, or std::invalid_argument for slots that are not distinct, lists of tokens that do not match
    // them, ids that the model does not have, and outputs that are not of their size.
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
