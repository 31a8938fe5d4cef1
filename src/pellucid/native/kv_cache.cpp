#include "kv_cache.hpp"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace pellucid {
namespace {

// Large pages of the system's, where it has them: attention reads the cache through fewer translations.
void ask_for_large_pages([[maybe_unused]] std::byte* memory, [[maybe_unused]] std::size_t size) {
#if defined(__linux__)
    madvise(memory, size, MADV_HUGEPAGE);  // advice: nothing depends on the answer
#endif
}

std::size_t pages_for(std::size_t tokens) { return (tokens + page_positions - 1) / page_positions; }

}  // namespace

std::size_t CacheShape::padded_head_dim() const { return (head_dim + panel_width - 1) / panel_width * panel_width; }

std::size_t CacheShape::page_bytes() const { return n_layer * (key_bytes() + value_bytes()); }

HeadCache CacheShape::head(std::size_t layer, std::size_t head, std::span<std::byte* const> pages) const {
    const std::size_t layer_offset = layer * (key_bytes() + value_bytes());
    return {.pages = pages.data(),
            .key_offset = layer_offset + head * (key_bytes() / n_head),
            .value_offset = layer_offset + key_bytes() + head * (value_bytes() / n_head),
            .head_dim = head_dim,
            .padded_head_dim = padded_head_dim(),
            .half = half};
}

KvCache::KvCache(const CacheShape& shape, std::size_t capacity_tokens)
    : shape_(shape), owners_(pages_for(capacity_tokens)) {
    const std::size_t size = owners_.size() * shape_.page_bytes();
    memory_.reset(static_cast<std::byte*>(::operator new[](size, std::align_val_t{memory_alignment})));
    ask_for_large_pages(memory_.get(), size);
    free_.reserve(owners_.size());
    for (std::size_t page = owners_.size(); page-- > 0;) free_.push_back(memory_.get() + page * shape_.page_bytes());
}

const KvCache::Sequence& KvCache::find(Id id) const {
    const auto found = sequences_.find(id);
    if (found == sequences_.end()) throw UnknownSlot("slot " + std::to_string(id) + " was dropped");
    return found->second;
}

KvCache::Sequence& KvCache::find(Id id) { return const_cast<Sequence&>(std::as_const(*this).find(id)); }

std::uint32_t& KvCache::owners(const std::byte* page) {
    return owners_[static_cast<std::size_t>(page - memory_.get()) / shape_.page_bytes()];
}

std::byte* KvCache::take_page() {
    std::byte* page = free_.back();
    free_.pop_back();
    owners(page) = 1;
    return page;
}

void KvCache::release(std::byte* page) {
    if (--owners(page) == 0) free_.push_back(page);
}

KvCache::Id KvCache::open() {
    sequences_.emplace(next_id_, Sequence{});
    return next_id_++;
}

KvCache::Id KvCache::fork(Id id) {
    sequences_.emplace(next_id_, Sequence(find(id)));
    for (const std::byte* page : find(id).pages) ++owners(page);
    return next_id_++;
}

void KvCache::drop(Id id) {
    for (std::byte* page : find(id).pages) release(page);
    sequences_.erase(id);
}

void KvCache::truncate(Id id, std::size_t length) {
    Sequence& sequence = find(id);
    if (length > sequence.length) {
        throw std::invalid_argument("slot " + std::to_string(id) + " holds " + std::to_string(sequence.length) +
                                    " tokens; it cannot be cut to " + std::to_string(length));
    }
    while (sequence.pages.size() > pages_for(length)) {
        release(sequence.pages.back());
        sequence.pages.pop_back();
    }
    sequence.length = length;
}

// New pages, and copies of last pages that others hold too. Of several slots in the batch that are all the owners of
// one page, the last to write needs no copy.
std::size_t KvCache::pages_needed(std::span<const Growth> growths) {
    std::size_t needed = 0;
    std::unordered_map<const std::byte*, std::uint32_t> left;  // owners, as copies are made
    for (const Growth& growth : growths) {
        const Sequence& sequence = find(growth.id);
        needed += pages_for(sequence.length + growth.count) - sequence.pages.size();
        if (sequence.length % page_positions == 0) continue;
        const std::byte* last = sequence.pages.back();
        std::uint32_t& owners_left = left.try_emplace(last, owners(last)).first->second;
        if (owners_left > 1) {
            ++needed;
            --owners_left;
        }
    }
    return needed;
}

void KvCache::grow(std::span<const Growth> growths) {
    const std::size_t needed = pages_needed(growths);
    if (needed > free_.size()) {
        throw CacheFull("the cache is full: these tokens need " + std::to_string(needed * page_positions) +
                        " positions more, and of its " + std::to_string(capacity()) + " there are " +
                        std::to_string(free_.size() * page_positions) +
                        " free; drop a slot, or load the model with a larger cache");
    }
    for (const Growth& growth : growths) {
        Sequence& sequence = find(growth.id);
        if (sequence.length % page_positions != 0 && owners(sequence.pages.back()) > 1) {
            std::byte* copy = take_page();
            std::memcpy(copy, sequence.pages.back(), shape_.page_bytes());
            release(sequence.pages.back());
            sequence.pages.back() = copy;
        }
        sequence.length += growth.count;
        while (sequence.pages.size() < pages_for(sequence.length)) sequence.pages.push_back(take_page());
    }
}

}  // namespace pellucid
