#pragma once

#include <cstddef>
#include <span>

namespace pellucid {

// Zeroed memory at an address of its own. The system gives a page when it is first written.
class AddressSpace {
public:
    // Raises std::bad_alloc where the system does not give so much.
    explicit AddressSpace(std::size_t size);
    ~AddressSpace();
    AddressSpace(const AddressSpace&) = delete;
    AddressSpace& operator=(const AddressSpace&) = delete;

    std::span<std::byte> bytes() const { return bytes_; }

private:
    std::span<std::byte> bytes_;
};

}  // namespace pellucid
