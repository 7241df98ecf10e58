// SPDX-License-Identifier: GPL-2.0-or-later
// The keeper: the one process that holds the store key and the store files. It serves the workers one after another,
// so a flush never happens in QEMU or under one of its locks.
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <map>
#include <memory>
#include <poll.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>
#include <vector>

#include <openssl/crypto.h>
#include <seccomp.h>

#include "vtpm/engine/roles.hpp"
#include "vtpm/engine/vault.hpp"
#include "vtpm/store/store.hpp"

namespace banyan::vtpm {
namespace {

struct Kept {
    std::unique_ptr<Store> store;
    Errc missing = Errc::kNotFound; // why there is no store
    Vault *vault = nullptr;
    int socket = -1;

    void let_go()
    {
        if (vault != nullptr) {
            ::munmap(vault, sizeof(Vault));
            vault = nullptr;
        }
        if (socket >= 0) {
            ::close(socket);
            socket = -1;
        }
    }
};

class Keeper {
public:
    Keeper(int zygote, const EngineOptions &options) : zygote_(zygote), options_(options), kept_(options.instances) {}

    bool open_platform(std::string &why);
    [[nodiscard]] bool make_test_key() { return ::getrandom(key_.data(), key_.size(), 0) == kStoreKeySize; }
    void say_hello(std::int32_t status, const std::string &text, bool landlock = false);
    [[noreturn]] void serve();

private:
    void from_zygote();
    void from_worker(std::uint32_t instance);
    void create(std::uint32_t instance, int file);
    void open_stores();
    /// Whether the instance has a record to go on with.
    [[nodiscard]] Status usable(std::uint32_t instance);
    void tell(KeeperTell what, std::uint32_t instance, std::int32_t status, const std::string &text);

    int zygote_;
    const EngineOptions &options_;
    StoreKey key_{};
    std::vector<Kept> kept_;
};

void Keeper::tell(KeeperTell what, std::uint32_t instance, std::int32_t status, const std::string &text)
{
    KeeperMessage message;
    message.tell = what;
    message.instance = instance;
    message.status = status;
    (void)std::snprintf(message.text, sizeof(message.text), "%s", text.c_str());
    (void)send_with_fds(zygote_, &message, sizeof(message), {}, MSG_DONTWAIT);
}

void Keeper::say_hello(std::int32_t status, const std::string &text, bool landlock)
{
    KeeperMessage message;
    message.tell = KeeperTell::kHello;
    message.status = status;
    message.landlock = landlock;
    (void)std::snprintf(message.text, sizeof(message.text), "%s", text.c_str());
    (void)send_with_fds(zygote_, &message, sizeof(message), {}, MSG_DONTWAIT);
}

bool Keeper::open_platform(std::string &why)
{
    const std::string &folder = options_.platform;
    const std::string path = folder + "/store.key";
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    std::array<std::uint8_t, kStoreKeySize + 1> raw{};
    const ssize_t got = fd < 0 ? -1 : ::read(fd, raw.data(), raw.size());
    if (got != static_cast<ssize_t>(kStoreKeySize)) {
        why = path + (fd < 0 ? std::string(": ") + std::strerror(errno) : ": not 32 bytes");
        return false;
    }
    std::copy_n(raw.begin(), kStoreKeySize, key_.begin());
    OPENSSL_cleanse(raw.data(), raw.size());
    // Two machines on one folder would write over each other's state. The descriptor stays open, and with it the lock;
    // a machine that has just ended may take a moment to let go.
    bool locked = false;
    for (int tries = 0; tries < 50 && !locked; ++tries) {
        locked = ::flock(fd, LOCK_EX | LOCK_NB) == 0;
        if (!locked) {
            ::usleep(100'000);
        }
    }
    if (!locked) {
        why = folder + ": another machine runs on this platform folder";
        return false;
    }
    open_stores();
    return true;
}

void Keeper::open_stores()
{
    const std::string &folder = options_.platform;
    const std::string name = generations_file(folder);
    auto opened = options_.open_file(name, options_.accept_rollback ? O_RDWR | O_CREAT : O_RDWR);
    const std::shared_ptr<StoreFile> generations = opened ? std::move(*opened) : nullptr;
    std::vector<Anchor *> anchors;
    for (std::uint32_t i = 0; i < kept_.size(); ++i) {
        auto file = options_.open_file(instance_file(folder, i, "nvstore"), O_RDWR);
        if (!file || !generations) {
            kept_[i].missing = file ? Errc::kRolledBack : file.error();
            continue;
        }
        auto store = Store::open(std::move(*file), key_, i, Anchor(generations, key_, i));
        if (!store) {
            kept_[i].missing = store.error();
            continue;
        }
        kept_[i].store = std::make_unique<Store>(std::move(*store));
        anchors.push_back(kept_[i].store->anchor());
    }
    if (options_.accept_rollback) {
        (void)sync_folder_of(name); // it may be new
    }
    settle_all(anchors, generations.get());
}

Status Keeper::usable(std::uint32_t instance)
{
    Kept &kept = kept_[instance];
    const auto refuse = [&](KeeperTell what, Errc why, const std::string &text) -> Status {
        tell(what, instance, -static_cast<std::int32_t>(why), text);
        return fail(why);
    };
    if (!kept.store) {
        return kept.missing == Errc::kRolledBack
                   ? refuse(KeeperTell::kRolledBack, kept.missing,
                            "refused: the platform's generations file is missing; rollback=report makes it anew")
               : kept.missing == Errc::kCorrupt
                   ? refuse(KeeperTell::kFailed, kept.missing,
                            "the instance's store file is damaged or belongs to another platform")
                   : refuse(KeeperTell::kFailed, kept.missing, "the instance has no store file");
    }
    Store &store = *kept.store;
    std::string what;
    switch (store.freshness()) {
    case Freshness::kCurrent:
        return {};
    case Freshness::kErased:
        return refuse(KeeperTell::kFailed, Errc::kNotFound, "the instance was erased");
    case Freshness::kRolledBack:
        what = "the store file has generation " + std::to_string(store.record().generation) + ", not " +
               std::to_string(store.anchor()->now()->generation) + " as it was acknowledged last";
        break;
    case Freshness::kUnanchored:
        what = "nothing says which generation of the store file is the newest";
        break;
    }
    if (!options_.accept_rollback) {
        return refuse(KeeperTell::kRolledBack, Errc::kRolledBack, "refused: " + what);
    }
    if (const Status taken = store.accept(); !taken) {
        return refuse(KeeperTell::kFailed, taken.error(), "the instance's state could not be written");
    }
    tell(KeeperTell::kRolledBack, instance, 0,
         "accepted as generation " + std::to_string(store.record().generation) + ": " + what);
    return {};
}

void Keeper::create(std::uint32_t instance, int file)
{
    const off_t size = ::lseek(file, 0, SEEK_END);
    if (size <= 0 || size > static_cast<off_t>(kPermanentMax)) {
        return;
    }
    Bytes blob(static_cast<std::size_t>(size));
    if (::pread(file, blob.data(), blob.size(), 0) != size) {
        return;
    }
    const int memory = ::memfd_create("banyan-vtpm-store", MFD_CLOEXEC);
    if (memory < 0) {
        return;
    }
    auto store = Store::adopt_empty(std::make_unique<DiskFile>(memory), key_, instance, std::nullopt, blob);
    if (store) {
        kept_[instance].store = std::make_unique<Store>(std::move(*store));
    }
    OPENSSL_cleanse(blob.data(), blob.size());
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
    } else if (message.tell == KeeperTell::kCreate && fds.size() == 1) {
        create(message.instance, fds[0]);
    } else if (message.tell == KeeperTell::kErase) {
        kept.let_go();
        Status done{};
        if (kept.store) {
            done = kept.store->erase();
            kept.store.reset();
        }
        kept.missing = Errc::kNotFound;
        tell(KeeperTell::kErased, message.instance, done ? 0 : -static_cast<std::int32_t>(done.error()),
             done ? "" : "the store file could not be overwritten");
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
        }
    } else {
        said.status = -static_cast<std::int32_t>(Errc::kBadArgument);
    }
    if (kept.store) {
        said.established = kept.store->record().established ? 1 : 0;
        said.generation = kept.store->record().generation;
    }
    (void)::send(kept.socket, &said, sizeof(said), MSG_DONTWAIT | MSG_NOSIGNAL);
}

void Keeper::serve()
{
    std::vector<pollfd> fds;
    std::vector<std::uint32_t> who;
    for (;;) {
        fds.assign(1, {zygote_, POLLIN, 0});
        who.assign(1, 0);
        for (std::uint32_t i = 0; i < kept_.size(); ++i) {
            if (kept_[i].socket >= 0) {
                fds.push_back({kept_[i].socket, POLLIN, 0});
                who.push_back(i);
            }
        }
        if (::poll(fds.data(), fds.size(), -1) < 0) {
            continue;
        }
        // Workers first: a request of a worker that is being replaced either counts before its successor loads, or
        // is closed unread with its socket.
        for (std::size_t i = 1; i < fds.size(); ++i) {
            if (fds[i].revents != 0) {
                from_worker(who[i]);
            }
        }
        if (fds[0].revents != 0) {
            from_zygote();
        }
    }
}

} // namespace

void run_keeper(int zygote, const EngineOptions &options)
{
    ::signal(SIGPIPE, SIG_IGN);
    ::signal(SIGXFSZ, SIG_IGN); // a full quota is an error to answer, not an end
    Keeper keeper(zygote, options);
    std::string why;
    if (!(options.platform.empty() ? keeper.make_test_key() : keeper.open_platform(why))) {
        keeper.say_hello(-static_cast<std::int32_t>(Errc::kBadState), why);
        quit(1);
    }
    warm_up_store();
    const bool landlock = deny_files();
    Filter filter;
    if (!compile_filter({SCMP_SYS(read),       SCMP_SYS(write),       SCMP_SYS(poll),      SCMP_SYS(restart_syscall),
                         SCMP_SYS(recvmsg),    SCMP_SYS(recvfrom),    SCMP_SYS(sendmsg),   SCMP_SYS(sendto),
                         SCMP_SYS(pread64),    SCMP_SYS(pwrite64),    SCMP_SYS(fdatasync), SCMP_SYS(lseek),
                         SCMP_SYS(newfstatat), SCMP_SYS(fstat),       SCMP_SYS(close),     SCMP_SYS(memfd_create),
                         SCMP_SYS(mmap),       SCMP_SYS(munmap),      SCMP_SYS(mremap),    SCMP_SYS(brk),
                         SCMP_SYS(madvise),    SCMP_SYS(futex),       SCMP_SYS(getrandom), SCMP_SYS(clock_gettime),
                         SCMP_SYS(exit_group), SCMP_SYS(rt_sigreturn)},
                        filter) ||
        !apply_filter(filter)) {
        keeper.say_hello(-static_cast<std::int32_t>(Errc::kUnsupported), "seccomp is not available");
        quit(1);
    }
    keeper.say_hello(0, "", landlock);
    keeper.serve();
}

} // namespace banyan::vtpm
