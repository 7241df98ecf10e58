// SPDX-License-Identifier: GPL-2.0-or-later
#include "tool/agent.hpp"

#include <algorithm>
#include <charconv>
#include <string_view>

#include <fmt/format.h>

namespace banyan::tool {

namespace {

constexpr std::string_view kReady = "ready";
constexpr std::string_view kEvidence = "evidence ";
constexpr std::string_view kDone = "done";
constexpr std::string_view kFailed = "failed";

} // namespace

std::string printable(std::string_view text)
{
    constexpr std::size_t kMost = 200;
    std::string out;
    for (const char c : text.substr(0, kMost)) {
        out += c >= 0x20 && c < 0x7F ? c : '?';
    }
    return text.size() > kMost ? out + "…" : out;
}

std::vector<AgentEvent> AgentReader::feed(std::span<const std::uint8_t> bytes)
{
    std::vector<AgentEvent> events;
    while (!bytes.empty() && !broken_) {
        if (missing_ > 0) {
            const std::size_t now = std::min(missing_, bytes.size());
            archive_.insert(archive_.end(), bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(now));
            bytes = bytes.subspan(now);
            missing_ -= now;
            if (missing_ == 0) {
                events.push_back({AgentEvent::Kind::kEvidence, {}, std::move(archive_)});
                archive_.clear();
            }
            continue;
        }
        const char c = static_cast<char>(bytes.front());
        bytes = bytes.subspan(1);
        if (c == '\n') {
            take_line(events);
        } else if (line_.size() >= kMaxLine) {
            broken_ = true;
            events.push_back({AgentEvent::Kind::kBroken, fmt::format("a line is longer than {} bytes", kMaxLine), {}});
        } else {
            line_ += c;
        }
    }
    return events;
}

void AgentReader::take_line(std::vector<AgentEvent> &events)
{
    std::string line = std::move(line_);
    line_.clear();
    if (!line.empty() && line.back() == '\r') {
        line.pop_back();
    }
    if (line == kReady) {
        events.push_back({AgentEvent::Kind::kReady, {}, {}});
        return;
    }
    if (line == kDone) {
        events.push_back({AgentEvent::Kind::kDone, {}, {}});
        return;
    }
    if (line == kFailed || line.starts_with("failed ")) {
        events.push_back({AgentEvent::Kind::kFailed,
                          printable(std::string_view(line).substr(std::min(line.size(), kFailed.size() + 1))),
                          {}});
        return;
    }
    if (line.starts_with(kEvidence)) {
        const std::string_view digits = std::string_view(line).substr(kEvidence.size());
        std::size_t size = 0;
        const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), size);
        if (error == std::errc{} && end == digits.data() + digits.size() && size > 0 && size <= kMaxEvidence) {
            missing_ = size;
            return;
        }
    }
    broken_ = true;
    events.push_back({AgentEvent::Kind::kBroken, fmt::format("unexpected line \"{}\"", printable(line)), {}});
}

std::string attest_line(std::span<const std::uint8_t> nonce, const std::string &task)
{
    std::string line = "attest ";
    for (const std::uint8_t byte : nonce) {
        line += fmt::format("{:02x}", byte);
    }
    return line + (task.empty() ? "" : " ") + task + "\n";
}

} // namespace banyan::tool
