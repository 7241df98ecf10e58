// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "tool/exit_status.hpp"
#include "tool/plan.hpp"
#include "tool/session.hpp"

// What a run came to, for programs (docs/schema/run.schema.json) and for people.

namespace banyan::tool {

/// Hex by bank ("sha256") and PCR ("17").
using PcrValues = std::map<std::string, std::map<std::string, std::string>>;

struct Verdict {
    enum class Kind { kAttested, kRefused, kFailed };
    Kind kind = Kind::kFailed;
    std::string reason; // empty when attested
    PcrValues pcrs;     // as quoted
    PcrValues expected;
};
const char *name_of(Verdict::Kind kind);

struct RunFacts {
    std::string qemu_path;
    std::string qemu_digest; // SHA-256, hex
    double wall_seconds = 0;
    bool host_clock = true; // no icount: virtual time is host time
    std::string evidence;   // folder that was kept; empty if none
};

struct RunReport {
    nlohmann::json json;
    Exit exit = Exit::kBug;
};

/// `verdicts` has an entry for each VM of the plan, in its order.
RunReport make_report(const Plan &plan, const SessionResult &session, const std::vector<Verdict> &verdicts,
                      const RunFacts &facts);

/// An aligned table, a line a VM, and below it the reasons of those that are not attested.
std::string render_table(const nlohmann::json &report);

} // namespace banyan::tool
