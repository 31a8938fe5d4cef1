#pragma once

#include <atomic>
#include <memory>

#include "kv_cache.hpp"

namespace pellucid {

class Engine;

// A lock-free stack of dropped sequences, which the engine removes from its cache later. Adding one takes no lock and
// allocates nothing, so a slot can be dropped in any thread, during another thread's step, during garbage collection,
// and in a forked child.
class DropQueue {
public:
    struct Entry {
        KvCache::Id id = 0;
        Entry* next = nullptr;
    };

    DropQueue() = default;
    ~DropQueue();
    DropQueue(const DropQueue&) = delete;
    DropQueue& operator=(const DropQueue&) = delete;

    void add(std::unique_ptr<Entry> entry) noexcept;
    // Empties the queue and calls drop(id) for each entry.
    template <class Drop>
    void take_all(const Drop& drop) noexcept {
        Entry* entry = first_.exchange(nullptr, std::memory_order_acquire);
        while (entry != nullptr) {
            const std::unique_ptr<Entry> taken(entry);
            entry = taken->next;
            drop(taken->id);
        }
    }

private:
    std::atomic<Entry*> first_{nullptr};
};

// A handle on a sequence in an engine's cache. It keeps the engine alive. Its destructor drops the sequence.
class Slot {
public:
    ~Slot();
    Slot(const Slot&) = delete;
    Slot& operator=(const Slot&) = delete;

    KvCache::Id id() const { return id_; }
    const Engine& engine() const { return *engine_; }

private:
    friend class Engine;

    // Allocates everything, so that `hold`, which opens the slot, cannot fail.
    explicit Slot(std::shared_ptr<Engine> engine);
    void hold(KvCache::Id id) noexcept;
    void drop() noexcept;

    std::shared_ptr<Engine> engine_;
    std::unique_ptr<DropQueue::Entry> unopened_;
    std::atomic<DropQueue::Entry*> entry_{nullptr};  // null once the slot is dropped
    KvCache::Id id_ = 0;
};

}  // namespace pellucid
