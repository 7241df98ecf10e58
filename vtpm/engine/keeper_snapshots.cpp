// SPDX-License-Identifier: GPL-2.0-or-later
// What a snapshot asks of the keeper.
#include <algorithm>
#include <sys/random.h>
#include <unistd.h>
#include <utility>

#include "vtpm/engine/keeper.hpp"

namespace banyan::vtpm {

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

} // namespace banyan::vtpm
