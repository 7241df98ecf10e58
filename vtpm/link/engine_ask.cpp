// SPDX-License-Identifier: GPL-2.0-or-later
// A snapshot's questions to the keeper, by way of the zygote.
#include <algorithm>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vtpm/link/engine_link.hpp"
#include "vtpm/link/fd.hpp"
#include "vtpm/link/giving_way.hpp"
#include "vtpm/link/snapshot.hpp"

namespace banyan::vtpm {
namespace {

constexpr std::uint64_t kAskNs = 20 * kSecond;   // the keeper flushes files, or waits for another machine's to end
constexpr std::uint64_t kAskSliceNs = 5'000'000; // somebody else may have taken in the answer

/// Memory that QEMU and the keeper write in turn; its size is sealed, so that nobody takes pages away.
class SharedFile {
public:
    SharedFile() : fd_(::memfd_create("banyan-vtpm-snapshot", MFD_CLOEXEC | MFD_ALLOW_SEALING))
    {
        if (fd_.ok() && ::ftruncate(fd_.get(), kSnapshotPartMax) == 0 &&
            ::fcntl(fd_.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0) {
            void *at = ::mmap(nullptr, kSnapshotPartMax, PROT_READ | PROT_WRITE, MAP_SHARED, fd_.get(), 0);
            bytes_ = at == MAP_FAILED ? nullptr : static_cast<std::uint8_t *>(at);
        }
    }
    ~SharedFile()
    {
        if (bytes_ != nullptr) {
            ::munmap(bytes_, kSnapshotPartMax);
        }
    }
    SharedFile(const SharedFile &) = delete;
    SharedFile &operator=(const SharedFile &) = delete;
    [[nodiscard]] int fd() const { return fd_.get(); }
    [[nodiscard]] std::uint8_t *bytes() const { return bytes_; }

private:
    Fd fd_;
    std::uint8_t *bytes_ = nullptr;
};

} // namespace

Status EngineLink::ask(ControlKind kind, std::uint32_t instance, std::vector<std::uint8_t> *file, std::string &why)
{
    const std::lock_guard one_at_a_time(ask_mutex_);
    const auto refuse = [&](Errc code, const char *text) {
        why = text;
        return fail(code);
    };
    std::optional<SharedFile> memory;
    if (file != nullptr) {
        memory.emplace();
        if (memory->bytes() == nullptr || file->size() > kSnapshotPartMax) {
            return refuse(Errc::kNoSpace, "no memory for the snapshot");
        }
        std::copy(file->begin(), file->end(), memory->bytes());
    }
    ControlMessage message;
    message.kind = kind;
    message.instance = instance;
    message.life = ++asked_;
    message.status = file != nullptr ? static_cast<std::int32_t>(file->size()) : 0;
    const int fd = memory ? memory->fd() : -1;
    const std::uint64_t begun = monotonic_ns();
    Status sent = fail(Errc::kBusy);
    while (!sent) {
        sent = send(message, &fd, file != nullptr ? 1 : 0);
        if (!sent && (sent.error() != Errc::kBusy || monotonic_ns() - begun > kAskNs)) {
            return refuse(Errc::kIo, "the vTPM engine does not answer");
        }
    }
    for (;;) {
        pump();
        {
            const std::lock_guard lock(control_mutex_);
            if (done_ && done_->life == asked_) {
                break;
            }
        }
        if (!alive() || monotonic_ns() - begun > kAskNs) {
            return refuse(Errc::kIo, "the vTPM engine does not answer");
        }
        (void)readable_within(control_, kAskSliceNs);
    }
    const std::lock_guard lock(control_mutex_);
    const ControlMessage done = *done_;
    done_.reset();
    if (done.status < 0) {
        return refuse(static_cast<Errc>(-done.status), done.text);
    }
    if (file != nullptr) {
        const auto size = static_cast<std::size_t>(done.status);
        if (size > kSnapshotPartMax) {
            return refuse(Errc::kIo, "the vTPM engine answered with nonsense");
        }
        file->assign(memory->bytes(), memory->bytes() + size);
    }
    return {};
}

} // namespace banyan::vtpm
