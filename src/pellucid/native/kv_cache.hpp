#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <span>
#include <stdexcept>
#include <unordered_map>
#include <vector>

#include "address_space.hpp"
#include "kernels.hpp"

namespace pellucid {

// The dimensions of a key/value cache. A token has one key and one value per head and layer. `half` stores float16
// instead of float32.
struct CacheShape {
    std::size_t n_layer;
    std::size_t n_head;
    std::size_t head_dim;
    bool half;

    std::size_t padded_head_dim() const;
    std::size_t page_bytes() const;
    HeadCache head(std::size_t layer, std::size_t head, std::span<std::byte* const> pages) const;

private:
    std::size_t number_bytes() const { return half ? 2 : 4; }
    std::size_t key_bytes() const { return n_head * head_dim * page_positions * number_bytes(); }
    std::size_t value_bytes() const { return n_head * padded_head_dim() * page_positions * number_bytes(); }
};

class CacheFull : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

class UnknownSlot : public std::out_of_range {
public:
    using std::out_of_range::out_of_range;
};

// The system has no address space for a cache of the requested size.
class CacheTooLarge : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

// A paged key/value cache for several sequences. Pages hold 16 positions, and are reference-counted and copy-on-write:
// forked sequences share pages until one of them writes.
//
// The constructor reserves address space for all pages. The system allocates memory for a page at its first use. Freed
// pages are reused last in, first out, so resident memory stays at the peak number of pages in use.
//
// Strong exception safety: an exception leaves the cache unchanged.
class KvCache {
public:
    using Id = std::int64_t;

    struct Growth {
        Id id;
        std::size_t count;  // tokens
    };

    // Throws CacheTooLarge.
    KvCache(const CacheShape& shape, std::size_t capacity_tokens);

    const CacheShape& shape() const { return shape_; }
    std::size_t capacity() const { return pages_ * page_positions; }

    Id open();
    Id fork(Id id);
    void drop(Id id);
    void truncate(Id id, std::size_t length);
    std::size_t length(Id id) const { return find(id).length; }

    // Allocates pages for new tokens, and copies the shared pages that they will be written to. Throws CacheFull.
    void make_room(std::span<const Growth> growths);
    // Adds the new tokens to the sequences' lengths, after their keys and values were written.
    void grow(std::span<const Growth> growths);

    // Valid until the next call of a method that is not const.
    std::span<std::byte* const> pages(Id id) const { return find(id).pages; }

private:
    struct Sequence {
        std::size_t length = 0;
        std::vector<std::byte*> pages;  // enough for `length` tokens; more between make_room and grow
    };

    const Sequence& find(Id id) const;
    Sequence& find(Id id);
    std::uint32_t& reference_count(const std::byte* page);
    std::byte* take_page();
    void release(std::byte* page);
    std::size_t pages_needed(std::span<const Growth> growths);
    std::size_t free_pages() const { return free_.size() + pages_ - reference_counts_.size(); }

    CacheShape shape_;
    std::size_t pages_;
    AddressSpace memory_;
    std::vector<std::uint32_t> reference_counts_;  // of every page used so far; pages are first used in order
    std::vector<std::byte*> free_;                 // pages with count 0; capacity is reserved for all pages used so far
    std::unordered_map<Id, Sequence> sequences_;
    Id next_id_ = 0;
};

}  // namespace pellucid
