// SPDX-License-Identifier: GPL-2.0-or-later
#include "vtpm/store/inspect.hpp"

#include <utility>

#include "vtpm/store/store_slot.hpp"

namespace banyan::vtpm {
namespace {

/// The MAC of a slot's record, if it holds.
std::optional<StoreMac> look_at(StoreFile &file, const StoreKey *key, unsigned number, SlotFacts &facts)
{
    SlotHead head{};
    facts.well_formed =
        read_whole(file, &head, sizeof(head), slot_of(number)).has_value() && head_well_formed(head, number);
    if (!facts.well_formed) {
        return std::nullopt;
    }
    facts.instance = head.instance;
    facts.generation = head.generation;
    facts.established = (head.flags & kFlagEstablished) != 0;
    facts.size = head.size;
    if (key == nullptr) {
        return std::nullopt;
    }
    StoreRecord record;
    const bool holds = read_slot(file, *key, head.instance, number, record);
    facts.mac = holds ? SlotFacts::Mac::kHolds : SlotFacts::Mac::kFails;
    return holds ? std::optional(record.mac) : std::nullopt;
}

} // namespace

StoreFacts inspect_store(StoreFile &file, const StoreKey *key, std::shared_ptr<StoreFile> generations)
{
    using Verdict = StoreFacts::Verdict;
    StoreFacts facts;
    std::array<std::optional<StoreMac>, 2> macs;
    std::optional<unsigned> newest;
    for (unsigned number = 0; number < 2; ++number) {
        macs[number] = look_at(file, key, number, facts.slots[number]);
        if (macs[number] && (!newest || facts.slots[number].generation > facts.slots[*newest].generation)) {
            newest = number;
        }
    }
    if (key == nullptr) {
        return facts;
    }
    if (!newest) {
        facts.verdict = Verdict::kDamaged;
        return facts;
    }
    const std::uint32_t instance = facts.slots[*newest].instance;
    std::optional<Anchored> anchored;
    if (generations) {
        anchored = Anchor(std::move(generations), *key, instance).now();
    }
    if (!anchored) {
        facts.verdict = Verdict::kUnanchored;
        return facts;
    }
    facts.anchored = anchored->generation;
    facts.verdict = anchored->generation == kErasedGeneration ? Verdict::kErased : Verdict::kRolledBack;
    for (unsigned number = 0; number < 2; ++number) {
        SlotFacts &slot = facts.slots[number];
        if (macs[number] && slot.instance == instance && slot.generation == anchored->generation &&
            *macs[number] == anchored->record) {
            slot.current = true;
            facts.verdict = Verdict::kCurrent;
        }
    }
    return facts;
}

} // namespace banyan::vtpm
