// SPDX-License-Identifier: GPL-2.0-or-later
// One side of a comparison: N TPMs, and how a command gets to one of them and its answer back.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace banyan::bench {

using Bytes = std::vector<std::uint8_t>;

inline double now_us()
{
    return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// Ends the program with a sentence: a bench that cannot measure says so.
[[noreturn]] void give_up(const std::string &why);

class Side {
public:
    virtual ~Side() = default;
    /// Makes TPM `index` and brings it to its first answer.
    virtual void start(unsigned index) = 0;
    /// One command and its answer; one thread for each TPM.
    virtual const Bytes &command(unsigned index, const Bytes &bytes) = 0;

protected:
    Side() = default;
    Side(const Side &) = default;
    Side &operator=(const Side &) = default;
};

/// The engine under its chip, as QEMU has it: doorbell writes and register reads. folder: a platform in which it makes
/// instances, or empty for ones that end with the process.
std::unique_ptr<Side> make_ours(const std::string &engine, const std::string &folder, unsigned count);
/// A swtpm each, over a socket pair as QEMU has it.
std::unique_ptr<Side> make_swtpm(const std::string &state_folder, unsigned count);
/// libtpms in this process, a copy of the library each.
std::unique_ptr<Side> make_libtpms(unsigned count);

} // namespace banyan::bench
