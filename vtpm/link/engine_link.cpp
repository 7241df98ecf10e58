// SPDX-License-Identifier: GPL-2.0-or-later
#include "vtpm/link/engine_link.hpp"

#include <cerrno>
#include <cstring>
#include <new>
#include <sys/socket.h>

#include "vtpm/link/live_instance.hpp"

namespace banyan::vtpm {

std::unique_ptr<InstanceLink> EngineLink::instance(std::uint32_t index)
{
    return std::unique_ptr<InstanceLink>(new (std::nothrow) LiveInstance(*this, index));
}

Status EngineLink::send(const ControlMessage &message, const int *fds, unsigned count)
{
    iovec part{const_cast<ControlMessage *>(&message), sizeof(message)}; // sendmsg only reads it
    alignas(cmsghdr) char space[CMSG_SPACE(sizeof(int) * kSpawnFds)] = {};
    msghdr header{};
    header.msg_iov = &part;
    header.msg_iovlen = 1;
    if (count != 0) {
        header.msg_control = space;
        header.msg_controllen = CMSG_SPACE(sizeof(int) * count);
        cmsghdr *rights = CMSG_FIRSTHDR(&header);
        rights->cmsg_level = SOL_SOCKET;
        rights->cmsg_type = SCM_RIGHTS;
        rights->cmsg_len = CMSG_LEN(sizeof(int) * count);
        std::memcpy(CMSG_DATA(rights), fds, sizeof(int) * count);
    }
    if (::sendmsg(control_, &header, MSG_DONTWAIT | MSG_NOSIGNAL) != static_cast<ssize_t>(sizeof(message))) {
        return fail(errno == EAGAIN ? Errc::kBusy : Errc::kIo);
    }
    return {};
}

void EngineLink::pump()
{
    const std::lock_guard lock(control_mutex_);
    for (;;) {
        ControlMessage message;
        const ssize_t got = ::recv(control_, &message, sizeof(message), MSG_DONTWAIT);
        if (got == 0 && alive_.exchange(false)) {
            events_.push_back({0, "engine-died", "the vTPM engine has ended"});
            news_ = true;
        }
        if (got != static_cast<ssize_t>(sizeof(message))) {
            return;
        }
        message.event[sizeof(message.event) - 1] = '\0';
        message.text[sizeof(message.text) - 1] = '\0';
        take(message);
    }
}

void EngineLink::take(const ControlMessage &message)
{
    if (message.kind == ControlKind::kErased && message.instance < kMaxInstances && message.status == 0) {
        erased_[message.instance].store(true);
    }
    if (std::strcmp(message.event, kEventRolledBack) == 0) {
        rolled_back_.fetch_add(1, std::memory_order_relaxed);
    }
    if (message.kind == ControlKind::kDone) {
        done_ = message;
    }
    if (message.event[0] != '\0') {
        events_.push_back({message.instance, message.event, message.text});
        news_ = true;
    }
}

void EngineLink::report(LinkEvent event)
{
    const std::lock_guard lock(control_mutex_);
    events_.push_back(std::move(event));
    news_ = true;
}

bool EngineLink::is_erased(std::uint32_t instance) const
{
    return instance < erased_.size() && erased_[instance].load();
}

std::vector<LinkEvent> EngineLink::take_events()
{
    std::vector<LinkEvent> events;
    if (!news_.load(std::memory_order_relaxed)) {
        return events;
    }
    const std::lock_guard lock(control_mutex_);
    events.swap(events_);
    news_ = false;
    return events;
}

} // namespace banyan::vtpm
