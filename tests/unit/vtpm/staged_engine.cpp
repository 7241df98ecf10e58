// SPDX-License-Identifier: GPL-2.0-or-later
// The engine with workers that die at a moment of their start, and a disk that is full, when stage.hpp's memory says so.
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tests/unit/vtpm/stage.hpp"
#include "vtpm/engine/roles.hpp"

namespace {

using namespace banyan::vtpm;
using banyan::vtpm::testing::Full;
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
    int left = stage->deaths; // several come here at once
    while (left > 0 && !stage->deaths.compare_exchange_weak(left, left - 1)) {
    }
    if (left > 0) {
        __builtin_trap(); // a signal's, without a call
    }
}

bool is_full(Full what)
{
    return stage != nullptr && (stage->full == what || stage->full == Full::kEverything);
}

/// Takes half of what it is given, while the disk is full.
class FullFile final : public StoreFile {
public:
    explicit FullFile(std::unique_ptr<StoreFile> file) : file_(std::move(file)) {}
    ssize_t read_at(void *data, std::size_t size, off_t where) override { return file_->read_at(data, size, where); }
    ssize_t write_at(const void *data, std::size_t size, off_t where) override
    {
        constexpr std::size_t kAnchor = 256;         // and less
        constexpr std::size_t kRoom = 16 * 1024 + 1; // that is made for records, and more
        if (!is_full(size <= kAnchor ? Full::kAnchors : size < kRoom ? Full::kRecords : Full::kFiles)) {
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
    } else if (size > 64 && std::memcmp(data, "{\"ek\"", 5) == 0 && is_full(Full::kNames)) {
        errno = ENOSPC;
        return -1;
    }
    const ssize_t done = ::syscall(SYS_write, file, data, size);
    if (question && asked->ask == KeeperAsk::kCommit) {
        at(Moment::kCommitUnderWay);
    }
    return done;
}

// Zeros of about the size of a state: what the stock wipes a maker's file with.
extern "C" ssize_t pwrite(int file, const void *data, size_t size, off_t where)
{
    const auto *bytes = static_cast<const char *>(data);
    if (size > 1024 && size < 16 * 1024 && std::all_of(bytes, bytes + size, [](char byte) { return byte == 0; }) &&
        is_full(Full::kStock)) {
        errno = ENOSPC;
        return -1;
    }
    return ::syscall(SYS_pwrite64, file, data, size, where);
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
