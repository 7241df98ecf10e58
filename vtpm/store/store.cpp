// SPDX-License-Identifier: GPL-2.0-or-later
#include "vtpm/store/store.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

namespace banyan::vtpm {
namespace {

// docs/spec/vtpm.md, "Store file". All numbers little endian.
constexpr std::size_t kMacSize = 32;
constexpr char kMagic[8] = {'B', 'A', 'N', 'Y', 'A', 'N', 'N', 'V'};
constexpr std::uint32_t kVersion = 1;
constexpr std::uint32_t kFlagEstablished = 1;
constexpr off_t kSlotSize = 132 * 1024; // head in the first 4 KiB, blob after it
constexpr std::size_t kBlobAt = 4096;

struct SlotHead {
    char magic[8];
    std::uint32_t version;
    std::uint32_t instance;
    std::uint64_t generation;
    std::uint32_t flags;
    std::uint32_t size;         // of the blob
    std::uint8_t mac[kMacSize]; // HMAC-SHA-256 of the head up to here, then the blob
};
static_assert(sizeof(SlotHead) == 64 && offsetof(SlotHead, mac) == 32);
static_assert(kBlobAt + kPermanentMax <= static_cast<std::size_t>(kSlotSize));

bool mac_of(const StoreKey &key, const SlotHead &head, std::span<const std::uint8_t> blob,
            std::array<std::uint8_t, kMacSize> &out)
{
    Bytes text(offsetof(SlotHead, mac) + blob.size());
    std::memcpy(text.data(), &head, offsetof(SlotHead, mac));
    std::copy(blob.begin(), blob.end(), text.begin() + offsetof(SlotHead, mac));
    unsigned size = 0;
    return HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()), text.data(), text.size(), out.data(), &size) !=
               nullptr &&
           size == kMacSize;
}

bool write_all(int fd, const void *data, std::size_t size, off_t at)
{
    const auto *bytes = static_cast<const std::uint8_t *>(data);
    while (size > 0) {
        const ssize_t done = ::pwrite(fd, bytes, size, at);
        if (done < 0 && errno == EINTR) {
            continue;
        }
        if (done <= 0) {
            return false;
        }
        bytes += done;
        size -= static_cast<std::size_t>(done);
        at += done;
    }
    return true;
}

bool read_all(int fd, void *data, std::size_t size, off_t at)
{
    auto *bytes = static_cast<std::uint8_t *>(data);
    while (size > 0) {
        const ssize_t done = ::pread(fd, bytes, size, at);
        if (done < 0 && errno == EINTR) {
            continue;
        }
        if (done <= 0) {
            return false;
        }
        bytes += done;
        size -= static_cast<std::size_t>(done);
        at += done;
    }
    return true;
}

off_t slot_of(std::uint64_t generation)
{
    return static_cast<off_t>(generation % 2) * kSlotSize;
}

Status write_slot(int fd, const StoreKey &key, std::uint32_t instance, std::uint64_t generation, bool established,
                  std::span<const std::uint8_t> blob)
{
    if (blob.empty() || blob.size() > kPermanentMax) {
        return fail(Errc::kBadArgument);
    }
    SlotHead head{};
    std::memcpy(head.magic, kMagic, sizeof(kMagic));
    head.version = kVersion;
    head.instance = instance;
    head.generation = generation;
    head.flags = established ? kFlagEstablished : 0;
    head.size = static_cast<std::uint32_t>(blob.size());
    std::array<std::uint8_t, kMacSize> mac{};
    if (!mac_of(key, head, blob, mac)) {
        return fail(Errc::kIo);
    }
    std::memcpy(head.mac, mac.data(), kMacSize);
    const off_t at = slot_of(generation);
    // One flush for both: a torn slot fails its MAC, and the other slot is whole.
    if (!write_all(fd, blob.data(), blob.size(), at + static_cast<off_t>(kBlobAt)) ||
        !write_all(fd, &head, sizeof(head), at) || ::fdatasync(fd) != 0) {
        return fail(errno == ENOSPC ? Errc::kNoSpace : Errc::kIo);
    }
    return {};
}

bool read_slot(int fd, const StoreKey &key, std::uint32_t instance, unsigned slot, StoreRecord &record)
{
    SlotHead head{};
    const off_t at = slot_of(slot);
    if (!read_all(fd, &head, sizeof(head), at) || std::memcmp(head.magic, kMagic, sizeof(kMagic)) != 0 ||
        head.version != kVersion || head.instance != instance || head.size == 0 || head.size > kPermanentMax ||
        head.generation % 2 != slot) {
        return false;
    }
    Bytes blob(head.size);
    std::array<std::uint8_t, kMacSize> mac{};
    if (!read_all(fd, blob.data(), blob.size(), at + static_cast<off_t>(kBlobAt)) || !mac_of(key, head, blob, mac) ||
        CRYPTO_memcmp(mac.data(), head.mac, kMacSize) != 0) {
        return false;
    }
    record = {head.generation, (head.flags & kFlagEstablished) != 0, std::move(blob)};
    return true;
}

Result<StoreRecord> read_newest(int fd, const StoreKey &key, std::uint32_t instance)
{
    StoreRecord even;
    StoreRecord odd;
    const bool has_even = read_slot(fd, key, instance, 0, even);
    const bool has_odd = read_slot(fd, key, instance, 1, odd);
    if (!has_even && !has_odd) {
        return fail(Errc::kCorrupt);
    }
    if (has_even && (!has_odd || even.generation > odd.generation)) {
        return even;
    }
    return odd;
}

/// Blocks are allocated once, so that later commits change no metadata and need no journal write.
Status first_record(int fd, const StoreKey &key, std::uint32_t instance, std::span<const std::uint8_t> blob)
{
    constexpr std::size_t kUsual = kBlobAt + 16 * 1024;
    const Bytes zeros(kUsual);
    if (!write_all(fd, zeros.data(), kUsual, 0) || !write_all(fd, zeros.data(), kUsual, kSlotSize)) {
        return fail(errno == ENOSPC ? Errc::kNoSpace : Errc::kIo);
    }
    return write_slot(fd, key, instance, 1, false, blob);
}

} // namespace

Status create_store(const std::string &path, const StoreKey &key, std::uint32_t instance,
                    std::span<const std::uint8_t> permanent_blob)
{
    const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        return fail(errno == EEXIST ? Errc::kBadState : errno == ENOENT ? Errc::kNotFound : Errc::kIo);
    }
    Status done = first_record(fd, key, instance, permanent_blob);
    if (done && ::fsync(fd) != 0) {
        done = fail(Errc::kIo);
    }
    ::close(fd);
    const std::size_t slash = path.rfind('/');
    const std::string folder = slash == std::string::npos ? "." : path.substr(0, slash + 1);
    if (const int dir = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); dir >= 0) {
        if (::fsync(dir) != 0 && done) {
            done = fail(Errc::kIo);
        }
        ::close(dir);
    }
    if (!done) {
        (void)::unlink(path.c_str());
    }
    return done;
}

Result<StoreRecord> load_store(const std::string &path, const StoreKey &key, std::uint32_t instance)
{
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) {
        return fail(errno == ENOENT ? Errc::kNotFound : Errc::kIo);
    }
    auto record = read_newest(fd, key, instance);
    ::close(fd);
    return record;
}

Store::~Store()
{
    if (fd_ >= 0) {
        ::close(fd_);
    }
    OPENSSL_cleanse(key_.data(), key_.size());
}

Store::Store(Store &&other) noexcept
    : fd_(std::exchange(other.fd_, -1)),
      instance_(other.instance_),
      key_(other.key_),
      record_(std::move(other.record_))
{}

Store &Store::operator=(Store &&other) noexcept
{
    std::swap(fd_, other.fd_);
    std::swap(instance_, other.instance_);
    std::swap(key_, other.key_);
    std::swap(record_, other.record_);
    return *this;
}

Result<Store> Store::open(const std::string &path, const StoreKey &key, std::uint32_t instance)
{
    Store store(::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW), key, instance);
    if (store.fd_ < 0) {
        return fail(errno == ENOENT ? Errc::kNotFound : Errc::kIo);
    }
    BANYAN_TRY(store.record_, read_newest(store.fd_, key, instance));
    return store;
}

Result<Store> Store::adopt_empty(int fd, const StoreKey &key, std::uint32_t instance,
                                 std::span<const std::uint8_t> permanent_blob)
{
    Store store(fd, key, instance);
    if (const Status first = first_record(fd, key, instance, permanent_blob); !first) {
        return fail(first.error());
    }
    store.record_ = {1, false, Bytes(permanent_blob.begin(), permanent_blob.end())};
    return store;
}

Status Store::commit(std::span<const std::uint8_t> permanent_blob, bool established)
{
    if (fd_ < 0) {
        return fail(Errc::kBadState);
    }
    const std::uint64_t generation = record_.generation + 1;
    if (const Status done = write_slot(fd_, key_, instance_, generation, established, permanent_blob); !done) {
        // The slot may be whole on the disk although the flush failed: take it back, or a crash would bring up a
        // state that nobody was told of.
        const SlotHead nothing{};
        (void)write_all(fd_, &nothing, sizeof(nothing), slot_of(generation));
        return done;
    }
    record_ = {generation, established, Bytes(permanent_blob.begin(), permanent_blob.end())};
    return {};
}

Status Store::erase()
{
    if (fd_ < 0) {
        return fail(Errc::kBadState);
    }
    const Bytes zeros(kSlotSize);
    record_ = {};
    struct stat info {};
    if (::fstat(fd_, &info) != 0) {
        return fail(Errc::kIo);
    }
    for (off_t at = 0; at < info.st_size; at += kSlotSize) {
        const auto size = static_cast<std::size_t>(std::min<off_t>(kSlotSize, info.st_size - at));
        if (!write_all(fd_, zeros.data(), size, at)) {
            return fail(Errc::kIo);
        }
    }
    return ::fdatasync(fd_) == 0 ? Status{} : fail(Errc::kIo);
}

void warm_up_store()
{
    std::array<std::uint8_t, kMacSize> mac{};
    (void)mac_of({}, {}, {}, mac);
}

std::string instance_file(const std::string &private_folder, std::uint32_t instance, const std::string &suffix)
{
    char number[16];
    (void)std::snprintf(number, sizeof(number), "%03u", instance);
    return private_folder + "/instances/" + number + "." + suffix;
}

} // namespace banyan::vtpm
