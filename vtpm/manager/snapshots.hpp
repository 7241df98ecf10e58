// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "banyan/base/result.hpp"
#include "vtpm/link/engine_link.hpp"
#include "vtpm/manager/instance.hpp"

namespace banyan::vtpm {

/// The whole chip in a snapshot, and who has the platform folder: this machine, or another to which a snapshot was
/// handed over and that has not come back. Called with the machine stopped, by one thread; defer_power_on() by any.
class Snapshots {
public:
    /// incoming: another machine has the folder until load().
    Snapshots(EngineLink &engine, std::span<const std::unique_ptr<Instance>> instances, bool incoming);

    [[nodiscard]] Result<std::vector<std::uint8_t>> save(std::int64_t now_ns, bool hand_over, std::string &why);
    [[nodiscard]] Status load(std::span<const std::uint8_t> bytes, std::string &why);
    /// The machine is about to run here.
    [[nodiscard]] Status run(std::string &why);

    /// True: the instance is not this machine's now; it is powered on when it is again.
    [[nodiscard]] bool defer_power_on(std::uint32_t instance);

private:
    [[nodiscard]] std::vector<std::uint32_t> back_home();

    EngineLink &engine_;
    const std::span<const std::unique_ptr<Instance>> instances_;
    std::mutex mutex_;
    bool away_;
    bool incoming_;
    std::vector<std::uint32_t> deferred_;
};

} // namespace banyan::vtpm
