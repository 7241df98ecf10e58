// SPDX-License-Identifier: GPL-2.0-or-later
#include "guest/agent/request.hpp"

#include "banyan/arch/domain_table.hpp"

namespace banyan::agent {
namespace {

constexpr std::string_view kDigits = "0123456789abcdef";

std::optional<std::string> bytes_of_hex(std::string_view text)
{
    if (text.empty() || text.size() % 2 != 0 || text.size() > 2 * dt::own::kNonceMax) {
        return std::nullopt;
    }
    std::string bytes;
    for (std::size_t i = 0; i < text.size(); i += 2) {
        const std::size_t high = kDigits.find(text[i]);
        const std::size_t low = kDigits.find(text[i + 1]);
        if (high == std::string_view::npos || low == std::string_view::npos) {
            return std::nullopt;
        }
        bytes += static_cast<char>(high << 4 | low);
    }
    return bytes;
}

} // namespace

std::optional<Request> parse_request(std::string_view line)
{
    using Verb = Request::Verb;
    if (line == "poweroff") {
        return Request{Verb::kPoweroff, {}, {}};
    }
    if (line == "reboot") {
        return Request{Verb::kReboot, {}, {}};
    }
    if (line == "panic") {
        return Request{Verb::kPanic, {}, {}};
    }
    if (line == "hang") {
        return Request{Verb::kHang, {}, {}};
    }
    constexpr std::string_view kAttest = "attest ";
    if (!line.starts_with(kAttest)) {
        return std::nullopt;
    }
    line.remove_prefix(kAttest.size());
    const std::size_t space = line.find(' ');
    const auto nonce = bytes_of_hex(line.substr(0, space));
    if (!nonce) {
        return std::nullopt;
    }
    Request request{Verb::kAttest, *nonce, {}};
    if (space != std::string_view::npos) {
        const std::string_view task = line.substr(space + 1);
        if (task == "seal") {
            request.secret = Request::Secret::kSeal;
        } else if (task == "unseal") {
            request.secret = Request::Secret::kUnseal;
        } else {
            return std::nullopt;
        }
    }
    return request;
}

std::string hex_of(std::string_view bytes)
{
    std::string text;
    for (const char c : bytes) {
        const auto byte = static_cast<unsigned char>(c);
        text += kDigits[byte >> 4];
        text += kDigits[byte & 0xF];
    }
    return text;
}

} // namespace banyan::agent
