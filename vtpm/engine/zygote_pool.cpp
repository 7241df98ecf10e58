// SPDX-License-Identifier: GPL-2.0-or-later
// TPMs that are made, and workers that stand by with one.
#include <algorithm>
#include <array>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>
#include <utility>

#include "vtpm/engine/vault.hpp"
#include "vtpm/engine/zygote.hpp"
#include "vtpm/link/giving_way.hpp"

namespace banyan::vtpm {

bool Zygote::start_maker(Pool::Need why)
{
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
        return false;
    }
    const int state = ::memfd_create("banyan-vtpm-made", MFD_CLOEXEC);
    const pid_t parent = ::getpid();
    const pid_t pid = state >= 0 ? ::fork() : -1;
    if (pid == 0) {
        harden_child(parent);
        ::dup2(0, 2);
        keep_only(std::array{ends[1], state});
        run_maker(3, 4, why == Pool::Need::kAhead);
    }
    ::close(ends[1]);
    if (pid < 0) {
        ::close(ends[0]);
        if (state >= 0) {
            ::close(state);
        }
        return false;
    }
    makers_.push_back({why, ends[0], state}); // the process is reaped with the other children
    return true;
}

void Zygote::from_maker(std::size_t index)
{
    const Maker maker = makers_[index];
    makers_.erase(makers_.begin() + static_cast<std::ptrdiff_t>(index));
    Made made;
    const bool good = ::recv(maker.output, &made, sizeof(made), MSG_WAITALL) == static_cast<ssize_t>(sizeof(made));
    if (good) {
        KeeperMessage message;
        message.tell = KeeperTell::kStock;
        message.ticket = pool_.made(maker.why, made.names);
        (void)send_with_fds(keeper_, &message, sizeof(message), std::array{maker.state});
    } else if (const auto unlucky = pool_.failed(maker.why)) {
        cannot_make(*unlucky);
    }
    ::close(maker.output);
    ::close(maker.state);
}

void Zygote::cannot_make(std::uint32_t index)
{
    Instance &instance = instances_[index];
    instance.waiting = false;
    refuse(index, instance.request_fds, ControlKind::kNotice, "manufacture-failed", "a TPM could not be made");
    close_all(instance.request_fds);
}

/// Keeper and signer hear of the instance before its worker asks for it.
bool Zygote::hand_over(const Pool::Grant &grant)
{
    KeeperMessage message;
    message.tell = KeeperTell::kCreate;
    message.instance = grant.instance;
    message.ticket = grant.ticket;
    message.names = grant.names;
    SignerNames names = grant.names;
    names.instance = grant.instance;
    return send_with_fds(keeper_, &message, sizeof(message), {}) &&
           ::send(signer_, &names, sizeof(names), MSG_NOSIGNAL) == static_cast<ssize_t>(sizeof(names));
}

void Zygote::look_after_pool()
{
    while (const auto grant = pool_.grant()) {
        Instance &instance = instances_[grant->instance];
        instance.made = hand_over(*grant);
        instance.waiting = false;
        if (instance.made) {
            spawn(grant->instance, instance.request, instance.request_fds);
            close_all(instance.request_fds);
        } else {
            cannot_make(grant->instance);
        }
    }
    while (pool_.need() != Pool::Need::kNone) {
        const Pool::Need need = pool_.need();
        pool_.begun(need);
        if (start_maker(need)) {
            continue;
        }
        if (const auto unlucky = pool_.failed(need)) {
            cannot_make(*unlucky);
        }
    }
    stand_by();
}

/// The next few instances get their TPMs before they ask: started and durable, so that who asks waits for no disk. None
/// of that is seen until then; an instance that wants another setup gets its TPM started anew.
void Zygote::stand_by()
{
    if (!standby_.may(monotonic_ns())) {
        return;
    }
    auto standing =
        std::count_if(instances_.begin(), instances_.end(), [](const Instance &one) { return one.door >= 0; });
    for (std::uint32_t i = 0; i < instances_.size() && standing < kStandbyMax; ++i) {
        Instance &instance = instances_[i];
        const bool asked = instance.worker > 0 || instance.waiting; // its TPM may turn out to be missing all the same
        if (instance.door >= 0 || asked || instance.erased || (instance.made && !instance.ahead)) {
            continue;
        }
        if (!instance.made) {
            const auto grant = pool_.grant_ahead(i);
            if (!grant) {
                return;
            }
            instance.made = hand_over(*grant);
            instance.ahead = instance.made;
        }
        if (!instance.made || !start_standby(i)) {
            standby_.gave_up();
            return;
        }
        ++standing;
    }
}

/// The folder may be another machine's from here on, or instances get states out of a snapshot.
void Zygote::stop_standby()
{
    for (Instance &instance : instances_) {
        if (instance.door >= 0) {
            kill_worker(instance);
        }
    }
}

bool Zygote::start_standby(std::uint32_t index)
{
    Instance &instance = instances_[index];
    int door[2];
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, door) != 0) {
        return false;
    }
    const int keeper = introduce(index, false);
    const pid_t parent = ::getpid();
    const pid_t pid = keeper >= 0 ? ::fork() : -1;
    if (pid == 0) {
        harden_child(parent);
        run_standby({door[1], instance.vault, keeper}, filters_);
    }
    ::close(door[1]);
    if (keeper >= 0) {
        ::close(keeper);
    }
    if (pid < 0) {
        ::close(door[0]);
        return false;
    }
    instance.worker = pid;
    workers_[pid] = index;
    instance.door = door[0];
    return true;
}

/// Whether the worker that stands by is the one that was asked for, and is that from now on.
bool Zygote::open_door(std::uint32_t index, const ControlMessage &request, std::vector<int> &fds)
{
    Instance &instance = instances_[index];
    const char knock = 0;
    if (instance.door < 0 || instance.spoilt || request.kind != ControlKind::kSpawn || request.setup != TpmSetup{} ||
        !send_with_fds(instance.door, &knock, sizeof(knock), fds, MSG_DONTWAIT)) {
        return false;
    }
    ::close(std::exchange(instance.door, -1));
    standby_.taken();
    instance.life = request.life;
    keep_ends(instance, fds);
    return true;
}

} // namespace banyan::vtpm
