// SPDX-License-Identifier: GPL-2.0-or-later
// The platform folder: whose it is, and what it holds.
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <fstream>
#include <sys/file.h>
#include <sys/random.h>
#include <unistd.h>

#include <openssl/crypto.h>

#include "vtpm/engine/keeper.hpp"

namespace banyan::vtpm {

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

} // namespace banyan::vtpm
