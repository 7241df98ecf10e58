// SPDX-License-Identifier: GPL-2.0-or-later
#include "vtpm/store/store_file.hpp"

#include <cerrno>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace banyan::vtpm {

DiskFile::~DiskFile()
{
    if (fd_ >= 0) {
        ::close(fd_);
    }
}

ssize_t DiskFile::read_at(void *data, std::size_t size, off_t at)
{
    const ssize_t done = ::pread(fd_, data, size, at);
    return done < 0 ? -errno : done;
}

ssize_t DiskFile::write_at(const void *data, std::size_t size, off_t at)
{
    const ssize_t done = ::pwrite(fd_, data, size, at);
    return done < 0 ? -errno : done;
}

int DiskFile::sync()
{
    return ::fdatasync(fd_) == 0 ? 0 : -errno;
}

off_t DiskFile::size()
{
    struct stat info {};
    return ::fstat(fd_, &info) == 0 ? info.st_size : -errno;
}

Result<std::unique_ptr<StoreFile>> open_disk_file(const std::string &path, int flags)
{
    const int fd = ::open(path.c_str(), flags | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        return fail(errno == ENOENT ? Errc::kNotFound : errno == EEXIST ? Errc::kBadState : Errc::kIo);
    }
    return std::make_unique<DiskFile>(fd);
}

Status sync_folder_of(const std::string &path)
{
    const std::size_t slash = path.rfind('/');
    const std::string folder = slash == std::string::npos ? "." : path.substr(0, slash + 1);
    const int fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return fail(Errc::kIo);
    }
    const bool done = ::fsync(fd) == 0;
    ::close(fd);
    return done ? Status{} : fail(Errc::kIo);
}

Status write_whole(StoreFile &file, const void *data, std::size_t size, off_t at)
{
    const auto *bytes = static_cast<const std::uint8_t *>(data);
    while (size > 0) {
        const ssize_t done = file.write_at(bytes, size, at);
        if (done == -EINTR) {
            continue;
        }
        if (done <= 0 || static_cast<std::size_t>(done) > size) {
            return fail(done == -ENOSPC || done == -EDQUOT || done == -EFBIG ? Errc::kNoSpace : Errc::kIo);
        }
        bytes += done;
        size -= static_cast<std::size_t>(done);
        at += done;
    }
    return {};
}

Status read_whole(StoreFile &file, void *data, std::size_t size, off_t at)
{
    auto *bytes = static_cast<std::uint8_t *>(data);
    while (size > 0) {
        const ssize_t done = file.read_at(bytes, size, at);
        if (done == -EINTR) {
            continue;
        }
        if (done <= 0 || static_cast<std::size_t>(done) > size) {
            return fail(Errc::kIo);
        }
        bytes += done;
        size -= static_cast<std::size_t>(done);
        at += done;
    }
    return {};
}

} // namespace banyan::vtpm
