// SPDX-License-Identifier: GPL-2.0-or-later
// What a store asks of a disk. An interface, so that tests can have disks that fail, write half, or lose power.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <sys/types.h>

#include "banyan/base/result.hpp"

namespace banyan::vtpm {

/// One open file. Not thread safe.
class StoreFile {
public:
    virtual ~StoreFile() = default;
    StoreFile(const StoreFile &) = delete;
    StoreFile &operator=(const StoreFile &) = delete;

    // Bytes done, which may be fewer than asked, or a negated errno.
    [[nodiscard]] virtual ssize_t read_at(void *data, std::size_t size, off_t at) = 0;
    [[nodiscard]] virtual ssize_t write_at(const void *data, std::size_t size, off_t at) = 0;
    /// What was written is durable after 0. After a negated errno nothing is known of it.
    [[nodiscard]] virtual int sync() = 0;
    [[nodiscard]] virtual off_t size() = 0; // or a negated errno

protected:
    StoreFile() = default;
};

/// Owns the descriptor.
class DiskFile final : public StoreFile {
public:
    explicit DiskFile(int fd) : fd_(fd) {}
    ~DiskFile() override;

    ssize_t read_at(void *data, std::size_t size, off_t at) override;
    ssize_t write_at(const void *data, std::size_t size, off_t at) override;
    int sync() override;
    off_t size() override;

private:
    const int fd_;
};

/// flags as of open(2); O_CLOEXEC and O_NOFOLLOW are added, the mode is 0600. kNotFound, kBadState (exists), kIo.
[[nodiscard]] Result<std::unique_ptr<StoreFile>> open_disk_file(const std::string &path, int flags);
/// Makes the names in a folder durable.
[[nodiscard]] Status sync_folder_of(const std::string &path);

/// Whole, over interruptions and short transfers. kNoSpace, kIo; read_whole also fails at the end of the file.
[[nodiscard]] Status write_whole(StoreFile &file, const void *data, std::size_t size, off_t at);
[[nodiscard]] Status read_whole(StoreFile &file, void *data, std::size_t size, off_t at);

} // namespace banyan::vtpm
