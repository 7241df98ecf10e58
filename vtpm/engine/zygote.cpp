// SPDX-License-Identifier: GPL-2.0-or-later
#include "vtpm/engine/zygote.hpp"

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <poll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vtpm/engine/vault.hpp"
#include "vtpm/link/giving_way.hpp"

namespace banyan::vtpm {

void close_all(std::vector<int> &fds)
{
    for (const int fd : fds) {
        ::close(fd);
    }
    fds.clear();
}

void Zygote::say(ControlKind kind, std::uint32_t index, std::int32_t status, const std::string &event,
                 const std::string &text)
{
    ControlMessage message;
    message.kind = kind;
    message.instance = index;
    message.life = index < instances_.size() ? instances_[index].life : 0;
    message.status = status;
    (void)std::snprintf(message.event, sizeof(message.event), "%s", event.c_str());
    (void)std::snprintf(message.text, sizeof(message.text), "%s", text.c_str());
    if (kind == ControlKind::kErased) {
        outbox_.answer(message);
        return;
    }
    outbox_.notice(message, [&](const ControlMessage &earlier) { // nobody may listen for long
        return earlier.kind == kind && earlier.instance == index && std::strcmp(earlier.event, message.event) == 0;
    });
}

void Zygote::from_host()
{
    ControlMessage request;
    std::vector<int> fds;
    if (!receive_with_fds(control_, &request, sizeof(request), fds) || request.version != kControlVersion ||
        request.instance >= instances_.size()) {
        stopping_ = true; // QEMU has ended
        close_all(fds);
        return;
    }
    Instance &instance = instances_[request.instance];
    switch (request.kind) {
    case ControlKind::kSpawn:
    case ControlKind::kRestore:
        if (fds.size() != kSpawnFds) {
            break;
        }
        instance.ahead = false;
        standby_.somebody_asked();
        if (open_door(request.instance, request, fds)) {
            break;
        }
        kill_worker(instance);
        close_all(instance.request_fds);
        instance.waiting = false;
        if (!instance.made) {
            instance.request = request;
            instance.request_fds.swap(fds);
            instance.waiting = true;
            pool_.want(request.instance);
        } else {
            spawn(request.instance, request, fds);
        }
        break;
    case ControlKind::kKill:
        if (request.life == instance.life && instance.door < 0) {
            kill_worker(instance);
        }
        if (instance.waiting && request.life == instance.request.life) {
            instance.waiting = false;
            pool_.forget(request.instance);
            close_all(instance.request_fds);
        }
        break;
    case ControlKind::kErase: {
        kill_worker(instance);
        instance.waiting = false;
        instance.ahead = false;
        instance.erased = true;
        pool_.forget(request.instance);
        close_all(instance.request_fds);
        KeeperMessage message;
        message.tell = KeeperTell::kErase;
        message.instance = request.instance;
        (void)send_with_fds(keeper_, &message, sizeof(message), {});
        if (instance.vault >= 0) {
            ::close(instance.vault);
            instance.vault = -1;
        }
        break;
    }
    case ControlKind::kSeal:
    case ControlKind::kOpen:
    case ControlKind::kInstall:
    case ControlKind::kYield:
    case ControlKind::kTake:
        snapshot(request, fds);
        break;
    case ControlKind::kHello:
    case ControlKind::kExited:
    case ControlKind::kErased:
    case ControlKind::kNotice:
    case ControlKind::kDone:
        break;
    }
    close_all(fds);
}

/// The keeper's work, passed on to it. An instance that gets another state loses its worker first.
void Zygote::snapshot(const ControlMessage &request, std::vector<int> &fds)
{
    Instance &instance = instances_[request.instance];
    KeeperMessage message;
    message.instance = request.instance;
    message.status = request.status;
    message.ticket = request.life;
    standby_.snapshot_asks();
    if (request.kind != ControlKind::kSeal) {
        stop_standby();
    }
    if (request.kind == ControlKind::kSeal) {
        message.tell = KeeperTell::kSeal;
    } else if (request.kind == ControlKind::kOpen) {
        message.tell = KeeperTell::kOpen;
    } else if (request.kind == ControlKind::kYield) {
        message.tell = KeeperTell::kYield;
        standby_.folder(false);
    } else if (request.kind == ControlKind::kTake) {
        message.tell = KeeperTell::kTake;
    } else {
        message.tell = KeeperTell::kInstall;
        kill_worker(instance);
        instance.waiting = false;
        close_all(instance.request_fds);
        pool_.forget(request.instance);
        if (instance.vault >= 0) {
            ::close(instance.vault);
        }
        instance.vault = make_shared_memory("banyan-vtpm-vault", sizeof(Vault));
        (void)send_with_fds(keeper_, &message, sizeof(message), std::array{instance.vault});
        return;
    }
    (void)send_with_fds(keeper_, &message, sizeof(message), fds);
}

void Zygote::from_keeper()
{
    KeeperMessage message;
    std::vector<int> fds;
    const bool good = receive_with_fds(keeper_, &message, sizeof(message), fds);
    close_all(fds);
    if (!good || message.instance >= instances_.size()) {
        stopping_ = true; // without the keeper nothing is durable
        return;
    }
    message.text[sizeof(message.text) - 1] = '\0';
    if (message.tell == KeeperTell::kFailed && instances_[message.instance].door >= 0) {
        instances_[message.instance].spoilt = true; // who asks gets another worker, and hears what that one meets
        return;
    }
    if (message.tell == KeeperTell::kErased) {
        say(ControlKind::kErased, message.instance, message.status, message.status == 0 ? "" : "store-failed",
            message.text);
    } else if (message.tell == KeeperTell::kFailed) {
        say(ControlKind::kNotice, message.instance, message.status, "store-failed", message.text);
    } else if (message.tell == KeeperTell::kRolledBack) {
        say(ControlKind::kNotice, message.instance, message.status, kEventRolledBack, message.text);
    } else if (message.tell == KeeperTell::kLineage) {
        instances_[message.instance].made = true;
        instances_[message.instance].ahead = false; // it came with a snapshot
        (void)::send(signer_, &message.names, sizeof(message.names), MSG_NOSIGNAL);
    } else if (message.tell == KeeperTell::kMissing) {
        instances_[message.instance].made = false; // its worker tells its host; the next start asks for another TPM
        instances_[message.instance].ahead = false;
        pool_.lost();
    } else if (message.tell == KeeperTell::kSpoilt) {
        pool_.spoilt(message.ticket);
    } else if (message.tell == KeeperTell::kDone) {
        standby_.folder(message.holds);
        standby_.snapshot_answered(monotonic_ns());
        ControlMessage done;
        done.kind = ControlKind::kDone;
        done.instance = message.instance;
        done.life = message.ticket;
        done.status = message.status;
        (void)std::snprintf(done.text, sizeof(done.text), "%s", message.text);
        outbox_.answer(done);
    }
}

int Zygote::run(const std::string &level)
{
    if (!worker_filters(filters_)) {
        say(ControlKind::kHello, 0, -static_cast<std::int32_t>(Errc::kUnsupported), "", "seccomp is not available");
        return 1;
    }
    sigset_t children;
    ::sigemptyset(&children);
    ::sigaddset(&children, SIGCHLD);
    ::sigprocmask(SIG_BLOCK, &children, nullptr);
    signals_ = ::signalfd(-1, &children, SFD_NONBLOCK | SFD_CLOEXEC);
    say(ControlKind::kHello, 0, 0, "", level);

    std::vector<pollfd> fds;
    while (!stopping_) {
        look_after_pool();
        const short room = outbox_.waiting() ? POLLOUT : 0;
        fds = {{control_, static_cast<short>(POLLIN | room), 0}, {keeper_, POLLIN, 0}, {signals_, POLLIN, 0}};
        for (const Maker &maker : makers_) {
            fds.push_back({maker.output, POLLIN, 0});
        }
        const auto quiet = standby_.wait_ns(monotonic_ns());
        if (::poll(fds.data(), fds.size(), quiet ? static_cast<int>(*quiet / 1'000'000) + 1 : -1) < 0) {
            continue;
        }
        for (std::size_t i = fds.size(); i-- > 3;) { // from_maker() takes it out of the list
            if (fds[i].revents != 0) {
                from_maker(i - 3);
            }
        }
        if (fds[1].revents != 0) {
            from_keeper();
        }
        if (fds[2].revents != 0) {
            reap();
        }
        outbox_.flush();
        if ((fds[0].revents & ~POLLOUT) != 0) {
            from_host();
        }
    }
    for (Instance &instance : instances_) {
        kill_worker(instance);
    }
    ::close(keeper_); // keeper and signer end when they see this, the keeper after a commit under way
    ::close(signer_);
    while (::waitpid(-1, nullptr, 0) > 0 || errno == EINTR) { // leaves no process for somebody else to collect
    }
    return 0;
}

} // namespace banyan::vtpm
