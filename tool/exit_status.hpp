// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <span>
#include <string>
#include <utility>

#include <tl/expected.hpp>

namespace banyan::tool {

/// What `banyan` ends with.
enum class Exit : int {
    kOk = 0,
    kRefused = 1,     // evidence was refused
    kUsage = 2,       // command line or machine file
    kEnvironment = 3, // a file, a program or a resource is missing
    kTimeout = 4,
    kVmFailed = 5, // a VM ended or gave up before it had shown evidence
    kBug = 70,
    kInterrupted = 130,
};

/// Of several the one to report: interruption first, then 70, 3, 4, 5, 1; 0 only if all are 0.
Exit fold(std::span<const Exit> all);

/// One sentence that says what was tried, what happened, and what to do; with the exit status that goes with it.
struct Failure {
    Exit exit = Exit::kBug;
    std::string text;
};

template <typename T>
using Outcome = tl::expected<T, Failure>;

inline tl::unexpected<Failure> failed(Exit exit, std::string text)
{
    return tl::unexpected<Failure>(Failure{exit, std::move(text)});
}

} // namespace banyan::tool
