#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

#include "fork_safety.hpp"

namespace pellucid {

// A pool of threads for parallel loops. A decode step is about sixty loops, so workers spin between loops, and sleep
// only if no loop follows within spin_time (200 microseconds).
//
// Loops are scheduled dynamically: each thread takes blocks of iterations from an atomic counter. The calling thread
// takes part, and waits only for workers that have joined the loop. A worker that sleeps or has no core delays nobody.
class ThreadPool {
public:
    // threads: the number of threads per loop, including the calling one. The pool has fewer if the system fails to
    // create them.
    explicit ThreadPool(std::size_t threads);
    ~ThreadPool();
    ThreadPool(const ThreadPool&) = delete;
    ThreadPool& operator=(const ThreadPool&) = delete;

    // The number of threads per loop. It is 1 in a forked child, which has only the calling thread.
    std::size_t threads() const { return in_child() ? 1 : workers_->size() + 1; }

    // Calls body(begin, end, thread) for consecutive ranges of at most `block` iterations that cover 0..count.
    // `thread` is unique among concurrent calls, and less than threads(). The body must not throw.
    // upcoming: memory that the next loop reads. Idle threads prefetch its beginning.
    template <class Body>
    void run(std::size_t count, std::size_t block, const Body& body, std::span<const std::byte> upcoming = {}) {
        const auto call = [](const void* context, std::size_t begin, std::size_t end, std::size_t thread) {
            (*static_cast<const Body*>(context))(begin, end, thread);
        };
        run(Loop{call, &body, count, block, upcoming});
    }

private:
    struct Loop {
        void (*call)(const void* context, std::size_t begin, std::size_t end, std::size_t thread) = nullptr;
        const void* context = nullptr;
        std::size_t count = 0;
        std::size_t block = 1;
        std::span<const std::byte> upcoming;
    };

    // Prefetches memory, one cache line per call.
    class Fetcher {
    public:
        explicit Fetcher(std::span<const std::byte> memory) : left_(memory.first(std::min(memory.size(), most))) {}
        void fetch_some();

    private:
        static constexpr std::size_t most = 128 * 1024;  // a part of L2
        std::span<const std::byte> left_;
    };

    void run(const Loop& loop);
    void work(std::size_t thread);
    void take_blocks(std::size_t thread, const Loop& loop);
    std::span<const std::byte> join_loop(std::size_t thread, std::uint32_t& last_number);

    // The state of the current loop: the number of workers in it, whether more may join, and the loop's number. One
    // atomic word holds all three, so that joining and closing are one atomic operation each.
    static constexpr std::uint32_t one_worker = 1;
    static constexpr std::uint32_t worker_mask = 0x3ff;
    static constexpr std::uint32_t open = 0x400;
    static constexpr std::uint32_t one_loop = 0x800;

    bool in_child() const { return generation_ != fork_generation(); }

    std::mutex running_;  // serializes the loops of different callers
    Loop loop_;
    alignas(64) std::atomic<std::uint32_t> state_{0};
    alignas(64) std::atomic<std::size_t> next_{0};
    std::atomic<bool> stopping_{false};
    const std::uint32_t generation_;  // the fork generation in which the workers were created
    std::unique_ptr<std::vector<std::thread>> workers_;
};

}  // namespace pellucid
