// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <string>

#include <nlohmann/json.hpp>

namespace banyan::tool {

// Members of JSON that somebody else wrote: whatever is there or not, nothing is thrown.

/// The member, or null.
inline nlohmann::json member(const nlohmann::json &value, const char *key)
{
    return value.is_object() && value.contains(key) ? value[key] : nlohmann::json(nullptr);
}

/// The member if it is a string, else "".
inline std::string text_member(const nlohmann::json &value, const char *key)
{
    const nlohmann::json found = member(value, key);
    return found.is_string() ? found.get<std::string>() : std::string();
}

} // namespace banyan::tool
