#pragma once

#include <cstddef>
#include <span>

namespace pellucid {

// Reserved virtual memory, zero-initialized. The system allocates a physical page when it is first written.
class AddressSpace {
public:
    // Throws std::bad_alloc if the system refuses the reservation.
    explicit AddressSpace(std::size_t size);
    ~AddressSpace();
    AddressSpace(const AddressSpace&) = delete;
    AddressSpace& operator=(const AddressSpace&) = delete;

    std::span<std::byte> bytes() const { return bytes_; }

private:
    std::span<std::byte> bytes_;
};

}  // namespace pellucid
