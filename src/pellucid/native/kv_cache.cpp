#include "kv_cache.hpp"

#include <algorithm>
#include <cstring>
#include <limits>
#include <new>
#include <string>
#include <utility>

namespace pellucid {
namespace {

std::size_t pages_for(std::size_t tokens) { return tokens / page_positions + (tokens % page_positions != 0); }

// The size of a cache in bytes. The caller may ask for any capacity, so the product can overflow.
std::size_t bytes_of(std::size_t pages, std::size_t page_bytes) {
    if (pages > std::numeric_limits<std::ptrdiff_t>::max() / page_bytes) {
        throw CacheTooLarge("a cache of " + std::to_string(pages) + " pages of " + std::to_string(page_bytes) +
                            " bytes is larger than any address space; load the model with a smaller capacity");
    }
    return pages * page_bytes;
}

AddressSpace reserve(std::size_t pages, std::size_t page_bytes) {
    if (pages == 0) throw std::invalid_argument("a cache holds at least 1 token");
    const std::size_t size = bytes_of(pages, page_bytes);
    try {
        return AddressSpace(size);
    } catch (const std::bad_alloc&) {
        throw CacheTooLarge("the system does not give " + std::to_string(size) + " bytes of address space for " +
                            std::to_string(pages * page_positions) +
                            " tokens; load the model with a smaller capacity");
    }
}

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
    : shape_(shape), pages_(pages_for(capacity_tokens)), memory_(reserve(pages_, shape.page_bytes())) {}

const KvCache::Sequence& KvCache::find(Id id) const {
    const auto found = sequences_.find(id);
    if (found == sequences_.end()) throw UnknownSlot("slot " + std::to_string(id) + " was dropped");
    return found->second;
}

KvCache::Sequence& KvCache::find(Id id) { return const_cast<Sequence&>(std::as_const(*this).find(id)); }

std::uint32_t& KvCache::reference_count(const std::byte* page) {
    return reference_counts_[static_cast<std::size_t>(page - memory_.bytes().data()) / shape_.page_bytes()];
}

std::byte* KvCache::take_page() {
    if (free_.empty()) {
        reference_counts_.push_back(1);
        return memory_.bytes().data() + (reference_counts_.size() - 1) * shape_.page_bytes();
    }
    std::byte* page = free_.back();
    free_.pop_back();
    reference_count(page) = 1;
    return page;
}

void KvCache::release(std::byte* page) {
    if (--reference_count(page) == 0) free_.push_back(page);
}

KvCache::Id KvCache::open() {
    sequences_.emplace(next_id_, Sequence{});
    return next_id_++;
}

KvCache::Id KvCache::fork(Id id) {
    const Sequence& original = find(id);
    const auto first = original.pages.begin();
    Sequence twin{original.length, {first, first + static_cast<std::ptrdiff_t>(pages_for(original.length))}};
    const Sequence& added = sequences_.emplace(next_id_, std::move(twin)).first->second;
    for (const std::byte* page : added.pages) ++reference_count(page);
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

// Counts new pages, and copy-on-write copies of last pages. If all references to a shared page are from sequences of
// this batch, the last of them to write needs no copy.
std::size_t KvCache::pages_needed(std::span<const Growth> growths) {
    std::size_t needed = 0;
    std::unordered_map<const std::byte*, std::uint32_t> left;  // reference counts, less the copies counted so far
    for (const Growth& growth : growths) {
        const Sequence& sequence = find(growth.id);
        const std::size_t pages = pages_for(sequence.length + growth.count);
        needed += pages - std::min(pages, sequence.pages.size());
        if (sequence.length % page_positions == 0) continue;
        const std::byte* last = sequence.pages[sequence.length / page_positions];
        std::uint32_t& references_left = left.try_emplace(last, reference_count(last)).first->second;
        if (references_left > 1) {
            ++needed;
            --references_left;
        }
    }
    return needed;
}

void KvCache::make_room(std::span<const Growth> growths) {
    const std::size_t needed = pages_needed(growths);
    if (needed > free_pages()) {
        throw CacheFull("the cache is full: these tokens need " + std::to_string(needed * page_positions) +
                        " positions more, and of its " + std::to_string(capacity()) + " there are " +
                        std::to_string(free_pages() * page_positions) +
                        " free; drop a slot, or load the model with a larger cache");
    }
    // All allocations come first, so that an exception leaves the cache unchanged. Spare capacity is not visible.
    const std::size_t used = reference_counts_.size() + needed - std::min(needed, free_.size());
    if (used > free_.capacity()) free_.reserve(std::max(used, 2 * free_.capacity()));
    if (used > reference_counts_.capacity()) {
        reference_counts_.reserve(std::max(used, 2 * reference_counts_.capacity()));
    }
    for (const Growth& growth : growths) {
        Sequence& sequence = find(growth.id);
        sequence.pages.reserve(pages_for(sequence.length + growth.count));
    }
    for (const Growth& growth : growths) {
        Sequence& sequence = find(growth.id);
        if (sequence.length % page_positions != 0) {
            std::byte*& last = sequence.pages[sequence.length / page_positions];
            if (reference_count(last) > 1) {
                std::byte* copy = take_page();
                std::memcpy(copy, last, shape_.page_bytes());
                release(last);
                last = copy;
            }
        }
        while (sequence.pages.size() < pages_for(sequence.length + growth.count)) {
            sequence.pages.push_back(take_page());
        }
    }
}

void KvCache::grow(std::span<const Growth> growths) {
    for (const Growth& growth : growths) find(growth.id).length += growth.count;
}

}  // namespace pellucid
