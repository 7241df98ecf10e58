// SPDX-License-Identifier: GPL-2.0-or-later
#include "vtpm/engine/keeper.hpp"

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdio>
#include <sys/socket.h>
#include <unistd.h>
#include <utility>

#include <seccomp.h>

namespace banyan::vtpm {

void Keeper::tell(KeeperTell what, std::uint32_t instance, std::int32_t status, const std::string &text)
{
    KeeperMessage message;
    message.tell = what;
    message.instance = instance;
    message.status = status;
    (void)std::snprintf(message.text, sizeof(message.text), "%s", text.c_str());
    if (what == KeeperTell::kErased) {
        outbox_.answer(message);
        return;
    }
    outbox_.notice(message, [&](const KeeperMessage &earlier) { // a worker causes it as often as it likes
        return earlier.tell == what && earlier.instance == instance;
    });
}

/// Before serve(): the zygote does nothing but listen.
void Keeper::say_hello(std::int32_t status, const std::string &text, bool landlock)
{
    for (std::uint32_t i = 0; i < kept_.size() && status == 0; ++i) {
        if (may_make(i)) {
            KeeperMessage missing;
            missing.tell = KeeperTell::kMissing;
            missing.instance = i;
            (void)send_with_fds(zygote_, &missing, sizeof(missing), {});
        }
    }
    KeeperMessage message;
    message.tell = KeeperTell::kHello;
    message.status = status;
    message.landlock = landlock;
    (void)std::snprintf(message.text, sizeof(message.text), "%s", text.c_str());
    (void)send_with_fds(zygote_, &message, sizeof(message), {});
}

void Keeper::from_zygote()
{
    KeeperMessage message;
    std::vector<int> fds;
    if (!receive_with_fds(zygote_, &message, sizeof(message), fds) || message.instance >= kept_.size()) {
        quit(0); // the zygote has ended
    }
    Kept &kept = kept_[message.instance];
    if (message.tell == KeeperTell::kAdopt && fds.size() == 2) {
        kept.let_go();
        kept.vault = static_cast<Vault *>(map_shared(fds[0], sizeof(Vault)));
        kept.socket = std::exchange(fds[1], -1);
        listen_to(kept.socket, message.instance);
    } else if (message.tell == KeeperTell::kStock && fds.size() == 1) {
        if (!stock_.put(message.ticket, fds[0])) {
            KeeperMessage spoilt; // who has been given it finds nothing; see create()
            spoilt.tell = KeeperTell::kSpoilt;
            spoilt.ticket = message.ticket;
            outbox_.answer(spoilt);
        }
        prepare_files();
    } else if (message.tell == KeeperTell::kCreate) {
        create(message.instance, message.ticket, message.names);
    } else if (message.tell == KeeperTell::kErase) {
        kept.let_go();
        kept.unborn.reset();
        Status done{};
        if (kept.store) {
            done = kept.store->erase();
            kept.store.reset();
        }
        kept.missing = Errc::kNotFound;
        kept.erased = true;
        tell(KeeperTell::kErased, message.instance, done ? 0 : -static_cast<std::int32_t>(done.error()),
             done ? "" : "the store file could not be overwritten");
    } else if (message.tell >= KeeperTell::kSeal && message.tell <= KeeperTell::kTake) {
        std::string why;
        const auto done = snapshot(message, fds, why);
        KeeperMessage answer;
        answer.tell = KeeperTell::kDone;
        answer.holds = held_;
        answer.instance = message.instance;
        answer.ticket = message.ticket;
        answer.status = done ? static_cast<std::int32_t>(*done) : -static_cast<std::int32_t>(done.error());
        (void)std::snprintf(answer.text, sizeof(answer.text), "%s", why.c_str());
        outbox_.answer(answer);
    }
    for (const int fd : fds) {
        if (fd >= 0) {
            ::close(fd);
        }
    }
}

void Keeper::from_worker(std::uint32_t instance)
{
    Kept &kept = kept_[instance];
    WorkerAsks asked;
    if (::recv(kept.socket, &asked, sizeof(asked), MSG_DONTWAIT) != static_cast<ssize_t>(sizeof(asked)) ||
        kept.vault == nullptr) {
        kept.let_go(); // the worker has ended, or speaks nonsense
        return;
    }
    KeeperSays said;
    if (const Status fit = usable(instance); !fit) {
        said.status = -static_cast<std::int32_t>(fit.error());
    } else if (asked.ask == KeeperAsk::kLoad) {
        const StoreRecord &record = kept.store->record();
        said.size = static_cast<std::uint32_t>(record.permanent.size());
        std::copy(record.permanent.begin(), record.permanent.end(), kept.vault->permanent);
    } else if (asked.ask == KeeperAsk::kCommit && asked.size <= kPermanentMax) {
        const Bytes blob(kept.vault->permanent, kept.vault->permanent + asked.size); // once, before anything looks
        if (const Status done = kept.store->commit(blob, asked.established != 0); !done) {
            said.status = -static_cast<std::int32_t>(done.error());
            tell(KeeperTell::kFailed, instance, said.status,
                 done.error() == Errc::kNoSpace ? "no space left for the instance's state"
                                                : "the instance's state could not be written");
        } else {
            kept.unborn.reset();
        }
    } else {
        said.status = -static_cast<std::int32_t>(Errc::kBadArgument);
    }
    if (kept.store) {
        said.established = kept.store->record().established ? 1 : 0;
        said.generation = kept.store->record().generation;
        said.restores = kept.store->record().restores;
    }
    (void)::send(kept.socket, &said, sizeof(said), MSG_DONTWAIT | MSG_NOSIGNAL);
}

void Keeper::serve()
{
    std::array<epoll_event, 64> events{};
    bool writes = false; // whether the zygote has room is asked for
    for (;;) {
        if (std::exchange(writes, outbox_.waiting()) != outbox_.waiting()) {
            watch(EPOLL_CTL_MOD, zygote_, kZygote, writes ? EPOLLIN | EPOLLOUT : EPOLLIN);
        }
        const int count = ::epoll_wait(poll_, events.data(), static_cast<int>(events.size()), -1);
        // Workers first: a request of a worker that is being replaced either counts before its successor loads, or
        // is closed unread with its socket.
        bool zygote = false;
        for (int i = 0; i < count; ++i) {
            const std::uint64_t who = events[static_cast<std::size_t>(i)].data.u64;
            if (who == kZygote) {
                outbox_.flush();
                zygote = (events[static_cast<std::size_t>(i)].events & ~std::uint32_t{EPOLLOUT}) != 0;
            } else if (kept_[who].socket >= 0) {
                from_worker(static_cast<std::uint32_t>(who));
            }
        }
        if (zygote) {
            from_zygote();
        }
    }
}

void run_keeper(int zygote, const EngineOptions &options)
{
    ::signal(SIGPIPE, SIG_IGN);
    name_process("vtpm-keeper");
    ::signal(SIGXFSZ, SIG_IGN); // a full quota is an error to answer, not an end
    Keeper keeper(zygote, options);
    std::string why;
    if (!(options.platform.empty() ? keeper.make_test_key(why) : keeper.open_platform(why))) {
        keeper.say_hello(-static_cast<std::int32_t>(Errc::kBadState), why);
        quit(1);
    }
    keeper.tell_lineages();
    warm_up_store();
    warm_up_seal();
    const bool landlock = deny_files(keeper.makes_in());
    std::vector<int> calls{
        SCMP_SYS(read),       SCMP_SYS(write),          SCMP_SYS(epoll_wait),      SCMP_SYS(epoll_ctl),
        SCMP_SYS(recvmsg),    SCMP_SYS(recvfrom),       SCMP_SYS(sendmsg),         SCMP_SYS(sendto),
        SCMP_SYS(pread64),    SCMP_SYS(pwrite64),       SCMP_SYS(fdatasync),       SCMP_SYS(lseek),
        SCMP_SYS(newfstatat), SCMP_SYS(fstat),          SCMP_SYS(close),           SCMP_SYS(memfd_create),
        SCMP_SYS(mmap),       SCMP_SYS(munmap),         SCMP_SYS(mremap),          SCMP_SYS(brk),
        SCMP_SYS(madvise),    SCMP_SYS(futex),          SCMP_SYS(getrandom),       SCMP_SYS(clock_gettime),
        SCMP_SYS(exit_group), SCMP_SYS(rt_sigreturn),   SCMP_SYS(restart_syscall), SCMP_SYS(flock),
        SCMP_SYS(nanosleep),  SCMP_SYS(clock_nanosleep)};
    if (!keeper.makes_in().empty()) { // Landlock says where
        calls.insert(calls.end(), {SCMP_SYS(openat), SCMP_SYS(fsync), SCMP_SYS(unlink)});
    }
    Filter filter;
    if (!compile_filter(calls, filter) || !apply_filter(filter)) {
        keeper.say_hello(-static_cast<std::int32_t>(Errc::kUnsupported), "seccomp is not available");
        quit(1);
    }
    keeper.say_hello(0, "", landlock);
    keeper.serve();
}

} // namespace banyan::vtpm
