// SPDX-License-Identifier: GPL-2.0-or-later
// Memory that a test shares with staged_engine.cpp, whose processes do what stands there.
#pragma once

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <fcntl.h>
#include <new>
#include <string>
#include <sys/mman.h>
#include <unistd.h>

namespace banyan::vtpm::testing {

/// Of a worker that starts, cold or from a checkpoint; the commits are only of a cold one.
enum class Moment : int { kNone, kBeforeLoad, kBeforeStir, kBeforeCommit, kCommitUnderWay };

/// What the disk has no room for.
enum class Full : int { kNothing, kEverything, kFiles, kNames, kRecords, kAnchors, kStock };

struct Staged {
    std::atomic<int> moment;
    std::atomic<int> deaths; // that are still to come at that moment
    std::atomic<int> waits;  // 1: who comes to the moment waits there while this is 1
    std::atomic<int> came;   // 1: somebody has come there
    std::atomic<Full> full;
};
static_assert(std::atomic<int>::is_always_lock_free);

inline constexpr const char *kStageVariable = "BANYAN_TEST_STAGE"; // number of the memory's descriptor

[[nodiscard]] inline Staged *map_stage(int file)
{
    void *at = ::mmap(nullptr, sizeof(Staged), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    return at == MAP_FAILED ? nullptr : static_cast<Staged *>(at);
}

/// The test's end. The engines that it starts while this is there find it.
class Stage {
public:
    Stage()
    {
        const int file = ::memfd_create("stage", MFD_CLOEXEC);
        file_ = ::fcntl(file, F_DUPFD, 100); // out of the way of the engine's own, and kept by exec
        ::close(file);
        if (::ftruncate(file_, sizeof(Staged)) != 0 || (staged_ = map_stage(file_)) == nullptr ||
            ::setenv(kStageVariable, std::to_string(file_).c_str(), 1) != 0) {
            std::abort();
        }
    }
    ~Stage()
    {
        ::munmap(staged_, sizeof(Staged));
        ::close(file_);
        ::unsetenv(kStageVariable);
    }
    Stage(const Stage &) = delete;
    Stage &operator=(const Stage &) = delete;

    Staged *operator->() const { return staged_; }

    /// So many workers die when they come to the moment.
    void die(Moment moment, int times) const
    {
        staged_->moment = static_cast<int>(moment);
        staged_->deaths = times;
    }
    /// And wait there before.
    void hold(Moment moment, int deaths) const
    {
        staged_->came = 0;
        staged_->waits = 1;
        die(moment, deaths);
    }
    void let_on() const { staged_->waits = 0; }

private:
    int file_ = -1;
    Staged *staged_ = nullptr;
};

} // namespace banyan::vtpm::testing
