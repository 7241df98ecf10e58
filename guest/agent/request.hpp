// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace banyan::agent {

/// A line from the owner's side. Specification: docs/spec/agent.md.
struct Request {
    enum class Verb { kAttest, kPoweroff, kReboot, kPanic, kHang };
    enum class Secret { kNone, kSeal, kUnseal };

    Verb verb = Verb::kHang;
    std::string nonce; // raw bytes, 1 to 64
    Secret secret = Secret::kNone;
};

std::optional<Request> parse_request(std::string_view line);

std::string hex_of(std::string_view bytes);

} // namespace banyan::agent
