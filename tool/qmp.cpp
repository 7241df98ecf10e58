// SPDX-License-Identifier: GPL-2.0-or-later
#include "tool/qmp.hpp"

namespace banyan::tool {

void QmpReader::feed(std::span<const std::uint8_t> bytes)
{
    for (const std::uint8_t byte : bytes) {
        if (broken_) {
            return;
        }
        if (byte != '\n') {
            line_ += static_cast<char>(byte);
            broken_ = line_.size() > kMaxLine;
            continue;
        }
        if (line_.find_first_not_of(" \t\r") != std::string::npos) {
            auto message = nlohmann::json::parse(line_, nullptr, false);
            broken_ = !message.is_object();
            if (!broken_) {
                messages_.push_back(std::move(message));
            }
        }
        line_.clear();
    }
}

std::optional<nlohmann::json> QmpReader::next()
{
    if (messages_.empty()) {
        return std::nullopt;
    }
    auto message = std::move(messages_.front());
    messages_.pop_front();
    return message;
}

} // namespace banyan::tool
