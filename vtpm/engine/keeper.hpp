// SPDX-License-Identifier: GPL-2.0-or-later
// The keeper: the one process that holds the store key and the store files. It serves the workers one after another,
// so a flush never happens in QEMU or under one of its locks.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <unistd.h>
#include <vector>

#include <openssl/crypto.h>

#include "vtpm/engine/outbox.hpp"
#include "vtpm/engine/pool.hpp"
#include "vtpm/engine/roles.hpp"
#include "vtpm/engine/snapshots.hpp"
#include "vtpm/engine/vault.hpp"
#include "vtpm/store/store.hpp"

namespace banyan::vtpm {

/// A state that became an instance's and is on no disk yet: its store is made when a worker first loads it, and durable
/// with that worker's first commit.
struct Unborn {
    explicit Unborn(Bytes bytes, const SignerNames &of) : state(std::move(bytes)), names(of) {}
    ~Unborn() { OPENSSL_cleanse(state.data(), state.size()); }
    Unborn(const Unborn &) = delete;
    Unborn &operator=(const Unborn &) = delete;

    Bytes state;
    SignerNames names;
};

struct Kept {
    std::unique_ptr<Store> store;
    std::unique_ptr<Unborn> unborn;
    std::unique_ptr<StoreFile> ready; // empty, for a store to come
    Errc missing = Errc::kNotFound;   // why there is no store
    Vault *vault = nullptr;
    int socket = -1;
    SnapshotSubject subject;
    std::optional<OpenedPart> opened; // a snapshot's part that waits to become this instance's state
    bool erased = false;

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
    Keeper(int zygote, const EngineOptions &options)
        : zygote_(zygote),
          outbox_(zygote),
          poll_(::epoll_create1(EPOLL_CLOEXEC)),
          options_(options),
          kept_(options.instances)
    {
        listen_to(zygote, kZygote);
    }

    bool open_platform(std::string &why);
    bool make_test_key(std::string &why);
    void tell_lineages();
    void say_hello(std::int32_t status, const std::string &text, bool landlock = false);
    [[noreturn]] void serve();
    /// Where it makes files, or empty.
    [[nodiscard]] std::string makes_in() const { return makes_in_.empty() ? "" : makes_in_ + "/instances"; }

private:
    static constexpr unsigned kTakeTries = 50;                  // a tenth of a second each
    static constexpr unsigned kBackTries = 5;                   // the machine's user waits
    static constexpr std::uint64_t kZygote = ~std::uint64_t{0}; // else the number of an instance
    void listen_to(int socket, std::uint64_t who) const
    {
        watch(EPOLL_CTL_ADD, socket, who, EPOLLIN); // closing the socket ends it
    }
    void watch(int how, int socket, std::uint64_t who, std::uint32_t events) const
    {
        epoll_event event{};
        event.events = events;
        event.data.u64 = who;
        (void)::epoll_ctl(poll_, how, socket, &event);
    }
    void from_zygote();
    void from_worker(std::uint32_t instance);
    void create(std::uint32_t instance, std::uint32_t ticket, const SignerNames &names);
    [[nodiscard]] Status be_born(std::uint32_t instance);
    void give_up_folder();
    [[nodiscard]] Result<Store> new_store(std::uint32_t instance, const Bytes &state, const SignerNames &names);
    [[nodiscard]] Result<std::unique_ptr<StoreFile>> empty_file(std::uint32_t instance) const;
    [[nodiscard]] int open_names(std::uint32_t instance) const;
    void prepare_files();
    [[nodiscard]] bool may_make(std::uint32_t instance) const;
    void open_store(std::uint32_t instance);
    void open_stores();
    /// Has the platform folder for this machine alone.
    Status take(unsigned tries, std::string &why);
    [[nodiscard]] Result<std::uint32_t> snapshot(const KeeperMessage &asked, std::span<const int> fds,
                                                 std::string &why);
    [[nodiscard]] Result<std::uint32_t> seal(Kept &kept, const KeeperMessage &asked, int file, std::string &why);
    [[nodiscard]] Result<std::uint32_t> open(Kept &kept, const KeeperMessage &asked, int file, std::string &why);
    [[nodiscard]] Status install(std::uint32_t instance, int vault, std::string &why);
    void tell_lineage(std::uint32_t instance, bool with_names);
    /// Whether the instance has a record to go on with.
    [[nodiscard]] Status usable(std::uint32_t instance);
    void tell(KeeperTell what, std::uint32_t instance, std::int32_t status, const std::string &text);

    int zygote_;
    Outbox<KeeperMessage> outbox_;
    int poll_;
    const EngineOptions &options_;
    std::shared_ptr<StoreFile> generations_;
    StoreKey key_{};
    std::string makes_in_; // the folder, if instances may be made in it
    SnapshotTerms terms_;
    std::vector<Kept> kept_;
    Stock stock_;
    int lock_ = -1;      // store.key; -1: no folder
    bool held_ = true;   // the platform folder is this machine's
    bool fresh_ = false; // it was once: what the stores held then is known
};

} // namespace banyan::vtpm
