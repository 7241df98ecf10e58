// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

// What the agent in a VM says on its evidence port: lines, and once a counted run of bytes. Specification:
// docs/guest.md, section 4. Nothing of it is trusted.

namespace banyan::tool {

struct AgentEvent {
    enum class Kind {
        kReady,    // waits for a request
        kEvidence, // `bytes` is the archive
        kDone,     // the request is finished
        kFailed,   // `text` says why it could not be done
        kBroken,   // `text` says what did not fit the protocol; nothing follows
    };
    Kind kind;
    std::string text;
    std::vector<std::uint8_t> bytes;
};

class AgentReader {
public:
    static constexpr std::size_t kMaxLine = 512;
    static constexpr std::size_t kMaxEvidence = std::size_t{4} << 20;

    std::vector<AgentEvent> feed(std::span<const std::uint8_t> bytes);

private:
    void take_line(std::vector<AgentEvent> &events);

    std::string line_;
    std::vector<std::uint8_t> archive_;
    std::size_t missing_ = 0; // bytes of the archive still to come
    bool broken_ = false;
};

/// `attest <nonce in hex>`, with ` seal` or ` unseal` when `task` says so.
std::string attest_line(std::span<const std::uint8_t> nonce, const std::string &task);

/// Printable ASCII of what a VM said, cut to a bearable length.
std::string printable(std::string_view text);

} // namespace banyan::tool
