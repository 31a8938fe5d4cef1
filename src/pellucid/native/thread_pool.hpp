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

// Threads that share loops. Between two loops they spin for some microseconds, because a token's step is sixty
// loops; after that they sleep.
//
// A loop is handed out in blocks as threads ask for them. The calling thread takes part, and waits only for those
// who have begun: a worker that sleeps, or that the system has not given a core, holds nobody up.
class ThreadPool {
public:
    // threads: how many work on a loop, the calling one included. There are fewer where the system makes no more.
    explicit ThreadPool(std::size_t threads);
    ~ThreadPool();
    ThreadPool(const ThreadPool&) = delete;
    ThreadPool& operator=(const ThreadPool&) = delete;

    // How many work on a loop. A forked child has the calling thread alone.
    std::size_t threads() const { return in_child() ? 1 : workers_->size() + 1; }

    // Calls body(begin, end, thread) until 0..count is covered, `block` at a time; thread < threads() is another
    // one in each simultaneous call. The body must not throw.
    // upcoming: memory that is read after this loop. Threads that have nothing else to do fetch its beginning.
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

    // Fetches memory little by little.
    class Fetcher {
    public:
        explicit Fetcher(std::span<const std::byte> memory) : left_(memory.first(std::min(memory.size(), most))) {}
        void fetch_some();

    private:
        static constexpr std::size_t most = 128 * 1024;  // of a second-level cache
        std::span<const std::byte> left_;
    };

    void run(const Loop& loop);
    void work(std::size_t thread);
    void take_blocks(std::size_t thread, const Loop& loop);
    std::span<const std::byte> join_loop(std::size_t thread, std::uint32_t& last_number);

    // The state of the current loop in one word, so that joining and closing are one atomic operation each: how
    // many workers are in it, whether more may join, and its number.
    static constexpr std::uint32_t one_worker = 1;
    static constexpr std::uint32_t worker_mask = 0x3ff;
    static constexpr std::uint32_t open = 0x400;
    static constexpr std::uint32_t one_loop = 0x800;

    bool in_child() const { return generation_ != fork_generation(); }

    std::mutex running_;  // one loop at a time, whoever calls
    Loop loop_;
    alignas(64) std::atomic<std::uint32_t> state_{0};
    alignas(64) std::atomic<std::size_t> next_{0};
    std::atomic<bool> stopping_{false};
    const std::uint32_t generation_;  // of the process whose threads the workers are
    std::unique_ptr<std::vector<std::thread>> workers_;
};

}  // namespace pellucid
