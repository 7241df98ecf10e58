// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <map>
#include <string>
#include <vector>

#include "attest/banks.hpp"

// The crypto-agile event log. TCG PC Client Platform Firmware Profile 1.06, section 10.

namespace banyan::attest {

struct Event {
    std::uint32_t pcr = 0;
    std::uint32_t type = 0;
    std::map<Bank, Bytes> digests; // one of each bank that the log's header names
    Bytes data;
};

struct EventLog {
    std::vector<Bank> banks; // as the header names them, each once
    std::vector<Event> events;
};

/// The whole input must be the log: a header, whole events, nothing after.
Expected<EventLog> parse_event_log(View bytes);

/// For tests and for what plays a loader.
Bytes encode_event_log(const EventLog &log);

/// What the events make of PCRs that begin as `start`; EV_NO_ACTION extends nothing.
Expected<PcrValues> replay(const EventLog &log, PcrValues start);

/// "event 2 (PCR 17, type 0xd, "kernel")" for messages; counting begins at 1.
std::string describe(const Event &event, std::size_t index);

} // namespace banyan::attest
