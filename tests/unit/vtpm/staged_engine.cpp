// SPDX-License-Identifier: GPL-2.0-or-later
// The engine with workers that die at a moment of their start, and a disk that is full, when stage.hpp's memory says so.
#include <cerrno>
#include <cstdio>
#include <memory>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tests/unit/vtpm/stage.hpp"
#include "vtpm/engine/roles.hpp"

namespace {

using namespace banyan::vtpm;
using banyan::vtpm::testing::Moment;
using banyan::vtpm::testing::Staged;

Staged *stage = nullptr;
bool is_worker = false; // it has asked for its TPM

void at(Moment moment)
{
    if (!is_worker || stage->moment != static_cast<int>(moment)) {
        return;
    }
    stage->came = 1;
    while (stage->waits == 1) {
        ::sched_yield(); // what a worker may call
    }
    if (stage->deaths > 0) {
        --stage->deaths;
        __builtin_trap(); // a signal's, without a call
    }
}

/// Takes half of what it is given, while the disk is full.
class FullFile final : public StoreFile {
public:
    explicit FullFile(std::unique_ptr<StoreFile> file) : file_(std::move(file)) {}
    ssize_t read_at(void *data, std::size_t size, off_t where) override { return file_->read_at(data, size, where); }
    ssize_t write_at(const void *data, std::size_t size, off_t where) override
    {
        if (stage == nullptr || stage->full == 0) {
            return file_->write_at(data, size, where);
        }
        (void)!file_->write_at(data, size / 2, where);
        return -ENOSPC;
    }
    int sync() override { return file_->sync(); }
    off_t size() override { return file_->size(); }

private:
    std::unique_ptr<StoreFile> file_;
};

} // namespace

// Instead of libc's, for the whole program. Of a worker, only TpmLife::stir() asks for 32 bytes.
extern "C" ssize_t getrandom(void *buffer, size_t size, unsigned flags)
{
    if (size == 32) {
        at(Moment::kBeforeStir);
    }
    return ::syscall(SYS_getrandom, buffer, size, flags);
}

// Of this size, only a worker's question to its keeper.
extern "C" ssize_t write(int file, const void *data, size_t size)
{
    const auto *asked = static_cast<const WorkerAsks *>(data);
    const bool question = size == sizeof(WorkerAsks);
    if (question) {
        is_worker = true;
        at(asked->ask == KeeperAsk::kLoad ? Moment::kBeforeLoad : Moment::kBeforeCommit);
    } else if (stage != nullptr && stage->full == 1 && size > 64) { // an instance's names
        errno = ENOSPC;
        return -1;
    }
    const ssize_t done = ::syscall(SYS_write, file, data, size);
    if (question && asked->ask == KeeperAsk::kCommit) {
        at(Moment::kCommitUnderWay);
    }
    return done;
}

int main(int argc, char **argv)
{
    const char *number = std::getenv(banyan::vtpm::testing::kStageVariable);
    stage = number != nullptr ? banyan::vtpm::testing::map_stage(std::atoi(number)) : nullptr;
    if (stage == nullptr) {
        std::fputs("no stage\n", stderr);
        return 2;
    }
    EngineOptions options;
    options.open_file = [](const std::string &path, int flags) -> banyan::Result<std::unique_ptr<StoreFile>> {
        auto file = open_disk_file(path, flags);
        if (!file) {
            return file;
        }
        return std::make_unique<FullFile>(std::move(*file));
    };
    return run_engine(argc, argv, options);
}
