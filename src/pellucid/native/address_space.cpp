#include "address_space.hpp"

#include <new>

#if defined(_WIN32)
#define WIN32_LEAN_AND_MEAN
#include <windows.h>
#else
#include <sys/mman.h>
#endif

namespace pellucid {

AddressSpace::AddressSpace(std::size_t size) {
#if defined(_WIN32)
    void* start = VirtualAlloc(nullptr, size, MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE);
    if (start == nullptr) throw std::bad_alloc();
#else
#if defined(MAP_NORESERVE)
    constexpr int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
#else
    constexpr int flags = MAP_PRIVATE | MAP_ANONYMOUS;
#endif
    void* start = mmap(nullptr, size, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (start == MAP_FAILED) throw std::bad_alloc();
#if defined(MADV_HUGEPAGE)
    madvise(start, size, MADV_HUGEPAGE);  // fewer TLB misses in attention; failure is harmless
#endif
#endif
    bytes_ = {static_cast<std::byte*>(start), size};
}

AddressSpace::~AddressSpace() {
#if defined(_WIN32)
    VirtualFree(bytes_.data(), 0, MEM_RELEASE);
#else
    munmap(bytes_.data(), bytes_.size());
#endif
}

}  // namespace pellucid
