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

// What a cache keeps of a token: a key and a value of each head of each layer, in 16 or 32 bits a number.
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

// The system does not give the address space that a cache needs.
class CacheTooLarge : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

// Keys and values of many sequences, in pages of sixteen positions that sequences share until one of them writes.
//
// Address space for all pages is reserved when the cache is made. The system gives a page memory when it is first
// used, and the page that was freed last is used first, so that no more is resident than once was needed.
//
// An exception leaves the cache as it was.
class KvCache {
public:
    using Id = std::int64_t;

    struct Growth {
        Id id;
        std::size_t count;  // tokens
    };

    // Raises CacheTooLarge.
    KvCache(const CacheShape& shape, std::size_t capacity_tokens);

    const CacheShape& shape() const { return shape_; }
    std::size_t capacity() const { return pages_ * page_positions; }

    Id open();
    Id fork(Id id);
    void drop(Id id);
    void truncate(Id id, std::size_t length);
    std::size_t length(Id id) const { return find(id).length; }

    // Gives each sequence room for new tokens, in pages that are its own to write. Raises CacheFull.
    void make_room(std::span<const Growth> growths);
    // Counts the new tokens in, once their keys and values are written.
    void grow(std::span<const Growth> growths);

    // Valid until the next call of a method that is not const.
    std::span<std::byte* const> pages(Id id) const { return find(id).pages; }

private:
    struct Sequence {
        std::size_t length = 0;
        std::vector<std::byte*> pages;  // as many as its tokens need, or more between make_room and grow
    };

    const Sequence& find(Id id) const;
    Sequence& find(Id id);
    std::uint32_t& owners(const std::byte* page);
    std::byte* take_page();
    void release(std::byte* page);
    std::size_t pages_needed(std::span<const Growth> growths);
    std::size_t free_pages() const { return free_.size() + pages_ - owners_.size(); }

    CacheShape shape_;
    std::size_t pages_;
    AddressSpace memory_;
    std::vector<std::uint32_t> owners_;  // of each page that was ever used; those are the first ones
    std::vector<std::byte*> free_;       // of these, the ones without an owner; room for all of them is reserved
    std::unordered_map<Id, Sequence> sequences_;
    Id next_id_ = 0;
};

}  // namespace pellucid
