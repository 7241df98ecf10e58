// SPDX-License-Identifier: GPL-2.0-or-later
// Who holds the interface. PTP 1.05, section 6.5.2.4 (TPM_ACCESS) and 6.5.3.2 (TPM_LOC_CTRL). Pure.
#pragma once

#include <array>
#include <cstdint>

namespace banyan::vtpm {

inline constexpr unsigned kLocalities = 5;
inline constexpr unsigned kHardwareLocality = 4;   // PTP 3.5: D-RTM hardware alone
inline constexpr std::uint32_t kPageSize = 0x1000; // one page a locality
inline constexpr std::uint8_t kNoLocality = 0xff;

struct Localities {
    std::uint8_t active = kNoLocality;
    std::uint8_t requested = 0; // bit n: locality n waits
    std::uint8_t seized = 0;    // bit n: TPM_ACCESS_n.beenSeized

    [[nodiscard]] constexpr bool waits(unsigned locality) const { return ((requested >> locality) & 1U) != 0; }
    [[nodiscard]] constexpr bool others_wait(unsigned locality) const { return (requested & ~(1U << locality)) != 0; }
    [[nodiscard]] constexpr bool been_seized(unsigned locality) const { return ((seized >> locality) & 1U) != 0; }
    friend constexpr bool operator==(Localities, Localities) = default;
};

enum class LocalityEvent : std::uint8_t { kRelinquish, kClearSeized, kSeize, kRequest, kHardwareSeize };

inline constexpr std::array kLocalityEvents{LocalityEvent::kRelinquish, LocalityEvent::kClearSeized,
                                            LocalityEvent::kSeize, LocalityEvent::kRequest,
                                            LocalityEvent::kHardwareSeize};

struct LocalityStep {
    Localities next;
    bool released = false; // the locality that was active is not any more: its command is aborted
    friend constexpr bool operator==(LocalityStep, LocalityStep) = default;
};

[[nodiscard]] constexpr LocalityStep step(Localities now, LocalityEvent event, std::uint8_t locality)
{
    const auto bit = static_cast<std::uint8_t>(1U << locality);
    const auto without = [](std::uint8_t set, std::uint8_t bits) { return static_cast<std::uint8_t>(set & ~bits); };
    Localities next = now;

    switch (event) {
    case LocalityEvent::kRelinquish:
        next.requested = without(now.requested, bit); // not the owner: takes a request back
        if (now.active != locality) {
            return {next, false};
        }
        next.active = kNoLocality;
        for (std::uint8_t l = 5; l-- > 0;) { // the highest that waits
            if (next.waits(l)) {
                next.active = l;
                next.requested = without(next.requested, static_cast<std::uint8_t>(1U << l));
                break;
            }
        }
        return {next, true};

    case LocalityEvent::kClearSeized:
        next.seized = without(now.seized, bit);
        return {next, false};

    case LocalityEvent::kSeize:
        if (now.active != kNoLocality && locality <= now.active) {
            return {now, false};
        }
        break;

    case LocalityEvent::kRequest:
        if (now.active == locality) {
            return {now, false};
        }
        if (now.active != kNoLocality) {
            next.requested = static_cast<std::uint8_t>(now.requested | bit);
            return {next, false};
        }
        break;

    case LocalityEvent::kHardwareSeize: // HASH_START: nobody waits behind a launch
        next.requested = 0;
        break;
    }

    if (now.active != kNoLocality && now.active != locality) {
        next.seized = static_cast<std::uint8_t>(now.seized | (1U << now.active));
    }
    next.active = locality;
    next.requested = without(next.requested, bit);
    return {next, now.active != kNoLocality};
}

} // namespace banyan::vtpm
