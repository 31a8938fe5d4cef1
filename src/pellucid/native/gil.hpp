#pragma once

#include <Python.h>

namespace pellucid {

// Lets other Python threads run while it lives: work that may take long, or wait for a lock, is done in its scope.
//
// An interpreter that exits ends its daemon threads where they next ask for the GIL, and a thread that ends inside C++
// aborts the process. So a daemon thread that would come back to an interpreter that exits waits for ever instead, and
// the exit waits until no thread is on its way back.
class GilRelease {
public:
    GilRelease();
    ~GilRelease();
    GilRelease(const GilRelease&) = delete;
    GilRelease& operator=(const GilRelease&) = delete;

private:
    PyThreadState* state_;
};

// To be called with the GIL when the interpreter begins to exit: waits for the steps of other threads, and keeps those
// threads from returning to Python. The calling thread may go on as before.
void wait_for_other_threads();

}  // namespace pellucid
