// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <span>
#include <string>

#include <nlohmann/json.hpp>

namespace banyan::tool {

/// Cuts what QEMU says on its QMP socket into JSON objects, a line each.
class QmpReader {
public:
    static constexpr std::size_t kMaxLine = std::size_t{1} << 20;

    void feed(std::span<const std::uint8_t> bytes);
    std::optional<nlohmann::json> next();
    [[nodiscard]] bool broken() const { return broken_; }

private:
    std::string line_;
    std::deque<nlohmann::json> messages_;
    bool broken_ = false;
};

} // namespace banyan::tool
