// SPDX-License-Identifier: GPL-2.0-or-later
// Reports, and who signs them.
#include <cerrno>
#include <cstring>
#include <poll.h>
#include <sys/socket.h>

#include "vtpm/link/engine_link.hpp"
#include "vtpm/link/fd.hpp"
#include "vtpm/link/giving_way.hpp"
#include "vtpm/link/life.hpp"

namespace banyan::vtpm {

Status EngineLink::sign(std::uint32_t slot, const banyan_report_facts &facts)
{
    const std::lock_guard lock(sign_mutex_);
    if (slot >= kSignSlots) {
        return fail(Errc::kBadArgument);
    }
    Slot &mine = slots_[slot];
    if (mine.busy && !mine.reply) {
        return fail(Errc::kBusy);
    }
    SignRequest request;
    request.slot = slot;
    request.ticket = ++next_ticket_;
    request.facts = facts;
    if (::send(signer_, &request, sizeof(request), MSG_DONTWAIT | MSG_NOSIGNAL) !=
        static_cast<ssize_t>(sizeof(request))) {
        return fail(errno == EAGAIN ? Errc::kBusy : Errc::kIo);
    }
    mine = {true, request.ticket, std::nullopt};
    return {};
}

void EngineLink::drain_signer()
{
    SignReply reply;
    while (receive(signer_, reply, MSG_DONTWAIT)) {
        if (reply.slot < kSignSlots && slots_[reply.slot].busy && slots_[reply.slot].ticket == reply.ticket &&
            reply.size <= BANYAN_REPORT_MAX) {
            slots_[reply.slot].reply = reply;
        }
    }
}

banyan_status EngineLink::sign_poll(std::uint32_t slot, std::uint8_t *out, std::uint32_t *size, bool wait)
{
    const std::lock_guard lock(sign_mutex_);
    if (slot >= kSignSlots || !slots_[slot].busy) {
        return -static_cast<banyan_status>(Errc::kBadState);
    }
    Slot &mine = slots_[slot];
    drain_signer();
    const std::uint64_t begun = monotonic_ns();
    while (wait && !mine.reply && monotonic_ns() - begun < kWatchdogNs && readable_within(signer_, kWatchdogNs)) {
        pollfd one{signer_, 0, 0};
        if (::poll(&one, 1, 0) > 0) {
            break; // hung up
        }
        drain_signer();
    }
    if (!mine.reply) {
        pollfd one{signer_, 0, 0};
        if (::poll(&one, 1, 0) > 0 && (one.revents & (POLLHUP | POLLERR)) != 0) {
            mine.busy = false;
            return -static_cast<banyan_status>(Errc::kIo);
        }
        return BANYAN_BUSY;
    }
    mine.busy = false;
    const SignReply &reply = *mine.reply;
    if (reply.status == 0) {
        std::memcpy(out, reply.bytes, reply.size);
        *size = reply.size;
    }
    const banyan_status status = reply.status;
    mine.reply.reset();
    return status;
}

} // namespace banyan::vtpm
