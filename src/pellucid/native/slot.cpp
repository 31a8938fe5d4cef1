#include "slot.hpp"

#include <utility>

#include "engine.hpp"

namespace pellucid {

DropQueue::~DropQueue() {
    take_all([](KvCache::Id) {});
}

void DropQueue::add(std::unique_ptr<Entry> entry) noexcept {
    Entry* added = entry.release();
    added->next = first_.load(std::memory_order_relaxed);
    while (!first_.compare_exchange_weak(added->next, added, std::memory_order_release, std::memory_order_relaxed)) {
    }
}

Slot::Slot(std::shared_ptr<Engine> engine)
    : engine_(std::move(engine)), unopened_(std::make_unique<DropQueue::Entry>()) {}

Slot::~Slot() { drop(); }

void Slot::hold(KvCache::Id id) noexcept {
    id_ = unopened_->id = id;
    entry_.store(unopened_.release(), std::memory_order_release);
}

void Slot::drop() noexcept {
    if (std::unique_ptr<DropQueue::Entry> entry{entry_.exchange(nullptr, std::memory_order_acq_rel)}) {
        engine_->drop_later(std::move(entry));
    }
}

}  // namespace pellucid
