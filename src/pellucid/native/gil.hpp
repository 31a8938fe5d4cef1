#pragma once

#include <Python.h>

namespace pellucid {

// Releases the GIL during its lifetime. Use it around long computations and around waits for a lock.
//
// When the interpreter exits, it terminates each daemon thread at the thread's next attempt to acquire the GIL.
// Termination inside C++ frames aborts the process. Therefore a daemon thread that returns during the exit sleeps
// forever, and the exit waits until no thread is about to acquire the GIL.
class GilRelease {
public:
    GilRelease();
    ~GilRelease();
    GilRelease(const GilRelease&) = delete;
    GilRelease& operator=(const GilRelease&) = delete;

private:
    PyThreadState* state_;
};

// An atexit handler. Waits for other threads' steps and keeps those threads from returning to Python. The caller holds
// the GIL, and can use the engine afterwards.
void wait_for_other_threads();

}  // namespace pellucid
