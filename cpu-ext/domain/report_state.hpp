// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <array>
#include <cstdint>

#include "banyan/arch/domain_table.hpp"

// One signed statement on its way: a domain's report, or a receipt. Both go through the same four states.

namespace banyan::domain {

enum class ReportEvent : std::uint8_t { kStart, kRefused, kSigned, kFailed, kDrop };
enum class ReportAction : std::uint8_t { kIgnore, kSign, kPublish, kClear };

inline constexpr std::array kAllReportStates{dt::ReportStatus::kIdle, dt::ReportStatus::kBusy, dt::ReportStatus::kReady,
                                             dt::ReportStatus::kFailed};
inline constexpr std::array kAllReportEvents{ReportEvent::kStart, ReportEvent::kRefused, ReportEvent::kSigned,
                                             ReportEvent::kFailed, ReportEvent::kDrop};

struct ReportStep {
    dt::ReportStatus next;
    ReportAction action;
    friend constexpr bool operator==(ReportStep, ReportStep) = default;
};

/// kStart: a request with a nonce of a proper size; kRefused: any other request. Both wait for a signature under way.
[[nodiscard]] constexpr ReportStep step(dt::ReportStatus state, ReportEvent event)
{
    const bool busy = state == dt::ReportStatus::kBusy;

    switch (event) {
    case ReportEvent::kStart:
        return busy ? ReportStep{state, ReportAction::kIgnore}
                    : ReportStep{dt::ReportStatus::kBusy, ReportAction::kSign};
    case ReportEvent::kRefused:
        return busy ? ReportStep{state, ReportAction::kIgnore}
                    : ReportStep{dt::ReportStatus::kFailed, ReportAction::kClear};
    case ReportEvent::kSigned:
        return busy ? ReportStep{dt::ReportStatus::kReady, ReportAction::kPublish}
                    : ReportStep{state, ReportAction::kIgnore};
    case ReportEvent::kFailed:
        return busy ? ReportStep{dt::ReportStatus::kFailed, ReportAction::kClear}
                    : ReportStep{state, ReportAction::kIgnore};
    case ReportEvent::kDrop: // the life it spoke of is over
        return {dt::ReportStatus::kIdle, ReportAction::kClear};
    }
    return {state, ReportAction::kIgnore};
}

} // namespace banyan::domain
