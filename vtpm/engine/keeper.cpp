// SPDX-License-Identifier: GPL-2.0-or-later
// The keeper: the one process that holds the store key and the store files. It serves the workers one after another,
// so a flush never happens in QEMU or under one of its locks.
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <fstream>
#include <memory>
#include <optional>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>
#include <vector>

#include <openssl/crypto.h>
#include <seccomp.h>

#include "vtpm/engine/manufacture.hpp"
#include "vtpm/engine/outbox.hpp"
#include "vtpm/engine/pool.hpp"
#include "vtpm/engine/roles.hpp"
#include "vtpm/engine/snapshots.hpp"
#include "vtpm/engine/vault.hpp"
#include "vtpm/store/store.hpp"

namespace banyan::vtpm {
namespace {

constexpr unsigned kTakeTries = 50; // a tenth of a second each
constexpr unsigned kBackTries = 5;  // the machine's user waits

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
    lock_ = fd;
    terms_.usable = true;
    terms_.key = seal_key_of(key_);
    if (!machine_id_of(folder + "/platform.crt", terms_.machine)) {
        why = folder + "/platform.crt: no certificate in PEM";
        return false;
    }
    if (!options_.snapshot_key.empty()) {
        why = "a snapshot key is for a vTPM without a platform folder: the platform has one of its own";
        return false;
    }
    held_ = !options_.incoming;
    if (held_ && !take(kTakeTries, why)) {
        why = folder + ": " + why;
        return false;
    }
    open_stores();
    return true;
}

bool Keeper::make_test_key(std::string &why)
{
    if (!options_.snapshot_key.empty()) {
        StoreKey key{};
        if (!read_key(options_.snapshot_key, key, why)) {
            return false;
        }
        terms_.usable = true;
        terms_.key = seal_key_of(key);
        OPENSSL_cleanse(key.data(), key.size());
    }
    return ::getrandom(key_.data(), key_.size(), 0) == kStoreKeySize;
}

Status Keeper::take(unsigned tries, std::string &why)
{
    if (lock_ < 0) {
        held_ = true;
        return {};
    }
    // Two machines on one folder would write over each other's state. The descriptor stays open, and with it the lock;
    // a machine that has just ended may take a moment to let go.
    bool locked = false;
    for (; tries > 0 && !locked; --tries) {
        locked = ::flock(lock_, LOCK_EX | LOCK_NB) == 0;
        if (!locked) {
            ::usleep(100'000);
        }
    }
    if (!locked) {
        why = "another machine runs on this platform folder";
        return fail(Errc::kBusy);
    }
    bool moved = false;
    for (Kept &kept : kept_) {
        if (kept.store) {
            const std::uint64_t before = kept.store->record().generation;
            const bool read = kept.store->reload().has_value();
            moved = moved || !read || (fresh_ && kept.store->record().generation != before);
            if (!read) {
                kept.store.reset();
                kept.missing = Errc::kCorrupt;
            }
        }
    }
    if (moved && fresh_) {
        (void)::flock(lock_, LOCK_UN);
        why = "another machine went on with this platform's instances";
        return fail(Errc::kBadState);
    }
    held_ = true;
    fresh_ = true;
    return {};
}

void Keeper::tell_lineage(std::uint32_t instance, bool with_names)
{
    KeeperMessage message;
    message.tell = KeeperTell::kLineage;
    message.instance = instance;
    message.names = kept_[instance].subject.names;
    message.names.instance = instance;
    message.names.restores = kept_[instance].store->record().restores;
    message.names.only_restores = !with_names;
    outbox_.answer(message);
}

void Keeper::tell_lineages()
{
    for (std::uint32_t i = 0; i < kept_.size(); ++i) {
        if (kept_[i].store && kept_[i].store->record().restores != 0) {
            tell_lineage(i, false);
        }
    }
}

void Keeper::open_store(std::uint32_t instance)
{
    Kept &kept = kept_[instance];
    kept.subject.tpm = tpm_id_of(instance_file(options_.platform, instance, "names"));
    auto file = options_.open_file(instance_file(options_.platform, instance, "nvstore"), O_RDWR);
    if (!file || !generations_) {
        kept.missing = file ? Errc::kRolledBack : file.error();
        return;
    }
    auto store = Store::open(std::move(*file), key_, instance, Anchor(generations_, key_, instance));
    if (!store) {
        kept.missing = store.error();
        return;
    }
    if (!makes_in_.empty() && store->freshness() == Freshness::kUnanchored && store->record().generation == 1) {
        // The power failed between a first record and its anchor: nobody was told of that TPM. A new one comes.
        kept.missing = Errc::kNotFound;
        return;
    }
    kept.store = std::make_unique<Store>(std::move(*store));
}

void Keeper::open_stores()
{
    const std::string &folder = options_.platform;
    const std::string name = generations_file(folder);
    auto opened = options_.open_file(name, options_.accept_rollback ? O_RDWR | O_CREAT : O_RDWR);
    const std::shared_ptr<StoreFile> generations = opened ? std::move(*opened) : nullptr;
    generations_ = generations;
    std::string platform_class;
    std::getline(std::ifstream(folder + "/class"), platform_class);
    if (!platform_class.empty() && platform_class != "machine") { // what a machine has, its manufacturer certified
        makes_in_ = folder;
    }
    std::vector<Anchor *> anchors;
    for (std::uint32_t i = 0; i < kept_.size(); ++i) {
        open_store(i);
        if (kept_[i].store) {
            anchors.push_back(kept_[i].store->anchor());
        }
    }
    if (!held_) {
        return; // another machine's still: read, never written
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
    if (!held_) {
        return refuse(KeeperTell::kFailed, Errc::kBusy, "the platform folder is another machine's");
    }
    if (const Status born = be_born(instance); !born) {
        return refuse(KeeperTell::kFailed, born.error(),
                      born.error() == Errc::kNoSpace ? "no space left for the instance's state"
                                                     : "the instance's store file could not be made");
    }
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

/// One that never had a state: no anchor, and no file or one without a record, made ahead.
bool Keeper::may_make(std::uint32_t instance) const
{
    const Kept &kept = kept_[instance];
    if (makes_in_.empty() || !generations_) {
        return false;
    }
    return !kept.store && (kept.missing == Errc::kNotFound || kept.missing == Errc::kCorrupt) &&
           !Anchor(generations_, key_, instance).now();
}

Result<std::unique_ptr<StoreFile>> Keeper::empty_file(std::uint32_t instance) const
{
    const std::string path = instance_file(makes_in_, instance, "nvstore");
    BANYAN_TRY(auto file, options_.open_file(path, O_RDWR | O_CREAT | O_TRUNC));
    if (const Status room = Store::prepare(*file); !room) {
        return fail(room.error());
    }
    const int names = open_names(instance); // empty until the TPM has some, but there, with one flush of the folder
    if (names < 0) {
        return fail(Errc::kIo);
    }
    ::close(names);
    if (const Status there = sync_folder_of(path); !there) {
        return fail(there.error());
    }
    return file;
}

int Keeper::open_names(std::uint32_t instance) const
{
    const std::string path = instance_file(makes_in_, instance, "names");
    return ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
}

/// Files for the instances that come next, as many as there are states for: whoever gets one does not wait for a disk
/// that looks for room. Others' files are made when they are asked for.
void Keeper::prepare_files()
{
    std::size_t wanted = held_ ? stock_.size() : 0; // else another machine's folder
    for (std::uint32_t i = 0; i < kept_.size() && wanted > 0 && !makes_in_.empty(); ++i) {
        if (kept_[i].unborn || !may_make(i)) {
            continue;
        }
        --wanted;
        if (!kept_[i].ready) {
            if (auto file = empty_file(i)) {
                kept_[i].ready = std::move(*file);
            }
            return; // one at a time: commits wait meanwhile
        }
    }
}

Result<Store> Keeper::new_store(std::uint32_t instance, const Bytes &state, const SignerNames &names)
{
    SnapshotSubject &subject = kept_[instance].subject;
    if (makes_in_.empty()) {
        subject.names = names;
        const int memory = ::memfd_create("banyan-vtpm-store", MFD_CLOEXEC);
        if (memory < 0) {
            return fail(Errc::kNoSpace);
        }
        return Store::adopt_empty(std::make_unique<DiskFile>(memory), key_, instance, std::nullopt, state);
    }
    if (!kept_[instance].ready) {
        BANYAN_TRY(kept_[instance].ready, empty_file(instance));
    }
    const std::string json = names_json({names.ek, names.ek_size}, {names.iak, names.iak_size});
    subject.tpm = tpm_id_of_text(json);
    const int file = open_names(instance);
    const bool named = file >= 0 && ::write(file, json.data(), json.size()) == static_cast<ssize_t>(json.size()) &&
                       ::fdatasync(file) == 0; // a TPM that was told of has its names after a power cut too
    if (file >= 0) {
        ::close(file);
    }
    if (!named) {
        return fail(Errc::kIo);
    }
    // No record is durable yet: that comes with the worker's first commit, before the instance is ready.
    return Store::begin(std::move(kept_[instance].ready), key_, instance, Anchor(generations_, key_, instance), state);
}

/// The state leaves the stock first: whatever goes wrong after that, no other instance gets it.
void Keeper::create(std::uint32_t instance, std::uint32_t ticket, const SignerNames &names)
{
    if (auto state = stock_.take(ticket)) {
        kept_[instance].unborn = std::make_unique<Unborn>(std::move(*state), names);
        return;
    }
    KeeperMessage missing;
    missing.tell = KeeperTell::kMissing;
    missing.instance = instance;
    outbox_.answer(missing);
}

/// A disk that was full is tried again with the next worker.
Status Keeper::be_born(std::uint32_t instance)
{
    Kept &kept = kept_[instance];
    if (!kept.unborn || kept.store) {
        return {};
    }
    if (!makes_in_.empty() && !may_make(instance)) { // another machine has made one meanwhile
        kept.unborn.reset();
        return {};
    }
    BANYAN_TRY(auto store, new_store(instance, kept.unborn->state, kept.unborn->names));
    kept.store = std::make_unique<Store>(std::move(store));
    if (kept.store->record().generation != 0) {
        kept.unborn.reset();
    }
    return {};
}

/// From here on the folder is another machine's.
void Keeper::give_up_folder()
{
    held_ = false;
    for (Kept &kept : kept_) {
        if (kept.store && kept.store->record().generation == 0) { // nothing of it is on the disk
            kept.store.reset();
            kept.missing = Errc::kNotFound;
        }
    }
    (void)::flock(lock_, LOCK_UN);
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
        (void)stock_.put(message.ticket, fds[0]); // else who gets it finds nothing, and another one is made
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

Result<std::uint32_t> Keeper::snapshot(const KeeperMessage &asked, std::span<const int> fds, std::string &why)
{
    Kept &kept = kept_[asked.instance];
    const auto done = [](const Status &status) -> Result<std::uint32_t> {
        return status ? Result<std::uint32_t>(0) : fail(status.error());
    };
    if (asked.tell == KeeperTell::kSeal && fds.size() == 1) {
        return seal(kept, asked, fds[0], why);
    }
    if (asked.tell == KeeperTell::kOpen && fds.size() == 1) {
        return open(kept, asked, fds[0], why);
    }
    if (asked.tell == KeeperTell::kInstall && fds.size() == 1) {
        return done(install(asked.instance, fds[0], why));
    }
    if (asked.tell == KeeperTell::kYield) {
        if (lock_ >= 0 && held_) {
            give_up_folder();
        }
        return 0;
    }
    if (asked.tell == KeeperTell::kTake) {
        const Status taken = held_ ? Status{} : take(kBackTries, why);
        if (taken) {
            tell_lineages();
        }
        return done(taken);
    }
    return fail(Errc::kBadArgument);
}

Result<std::uint32_t> Keeper::seal(Kept &kept, const KeeperMessage &asked, int file, std::string &why)
{
    SealOrder order;
    SnapshotText text;
    if (!held_ || !terms_.usable) {
        why = held_ ? kNoSnapshotKey : "the platform folder is another machine's";
        return fail(Errc::kBadState);
    }
    text.interface.resize(static_cast<std::size_t>(asked.status) - std::min<std::size_t>(asked.status, sizeof(order)));
    if (asked.status < static_cast<std::int32_t>(sizeof(order)) || text.interface.size() > kSnapshotInterfaceMax ||
        ::pread(file, &order, sizeof(order), 0) != static_cast<ssize_t>(sizeof(order)) ||
        ::pread(file, text.interface.data(), text.interface.size(), sizeof(order)) !=
            static_cast<ssize_t>(text.interface.size())) {
        return fail(Errc::kBadArgument);
    }
    if (order.first && ::getrandom(terms_.snapshot.data(), terms_.snapshot.size(), 0) !=
                           static_cast<ssize_t>(terms_.snapshot.size())) {
        return fail(Errc::kIo);
    }
    BANYAN_TRY(const Bytes part,
               seal_instance(terms_, kept.subject, asked.instance, order, kept.store.get(), kept.vault, text, why));
    return write_file(file, part);
}

Result<std::uint32_t> Keeper::open(Kept &kept, const KeeperMessage &asked, int file, std::string &why)
{
    kept.opened.reset();
    if (!terms_.usable) {
        why = kNoSnapshotKey;
        return fail(Errc::kBadState);
    }
    if (!held_ && !makes_in_.empty() && !kept.store) {
        open_store(asked.instance); // whose folder it still is may have made the instance meanwhile
    }
    Bytes part(static_cast<std::size_t>(std::max(asked.status, 0)));
    if (part.size() > kSnapshotPartMax ||
        ::pread(file, part.data(), part.size(), 0) != static_cast<ssize_t>(part.size())) {
        return fail(Errc::kBadArgument);
    }
    BANYAN_TRY(OpenedPart opened, open_instance(terms_, kept.subject, asked.instance, part, why));
    if (!opened.text.permanent.empty() && !kept.store && !kept.unborn && (lock_ >= 0 || kept.erased)) {
        why = "there is no store file for the instance: it was erased, or never was";
        return fail(Errc::kNotFound);
    }
    const auto size = write_file(file, opened.text.interface);
    kept.opened = std::move(opened);
    return size;
}

/// From here on nothing of the life before comes back: generation and restores are above all that were seen.
Status Keeper::install(std::uint32_t instance, int vault, std::string &why)
{
    Kept &kept = kept_[instance];
    if (!held_) {
        if (const Status taken = take(kTakeTries, why); !taken) {
            return taken;
        }
    }
    kept.let_go();
    (void)be_born(instance); // it is there, whatever the snapshot says of its state
    const auto opened = std::exchange(kept.opened, std::nullopt);
    if (!opened) {
        return fail(Errc::kBadState);
    }
    const SnapshotText &text = opened->text;
    if (text.permanent.empty()) {
        return {}; // no TPM had been made by then; one that was since stays
    }
    if (!kept.store && lock_ < 0) {
        BANYAN_TRY(auto store, new_store(instance, text.permanent, {}));
        kept.store = std::make_unique<Store>(std::move(store));
    }
    if (const Status fit = usable(instance); !fit) {
        why = "its store file is not one to go on from";
        return fit;
    }
    why = "the instance's state could not be written";
    const bool established = (opened->head.flags & SnapshotHead::kEstablished) != 0;
    if (const Status done =
            kept.store->restore({opened->head.generation, established, text.permanent, {}, opened->head.restores});
        !done) {
        return done;
    }
    if (!text.volatile_state.empty() &&
        !place_checkpoint(vault, kept.store->record().generation, text.volatile_state)) {
        return fail(Errc::kIo);
    }
    const bool with_names = unpack_names(text.names, kept.subject.names);
    tell_lineage(instance, with_names);
    why.clear();
    return {};
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

} // namespace

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
