// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

// What the agent asks of Linux.

namespace banyan::agent {

/// A step failed; what() is one line for the owner.
class Failed : public std::runtime_error {
    using std::runtime_error::runtime_error;
};

/// The whole file. Throws Failed.
std::string read_file(const std::string &path);
std::optional<std::string> read_if_there(const std::string &path);
void write_file(const std::string &path, const std::string &content);

/// Runs a program in `folder` to its end. Throws Failed with its last line on standard error.
void run(const std::string &folder, const std::vector<std::string> &arguments);
/// The same, but failing is an answer: false, and the reason.
bool try_run(const std::string &folder, const std::vector<std::string> &arguments, std::string &reason);

std::string random_bytes(std::size_t count);

/// The path of the virtio-serial port called `name` or `name.SUFFIX`, once it is there. Throws Failed after `timeout_ms`.
/// QEMU wants port names unique over all VMs of a machine, hence the suffix.
std::string find_port(const std::string &name, unsigned timeout_ms);

/// The domain's own page, through /dev/mem: it is no RAM, so STRICT_DEVMEM lets it pass.
class OwnPage {
public:
    OwnPage();
    ~OwnPage();
    OwnPage(const OwnPage &) = delete;
    OwnPage &operator=(const OwnPage &) = delete;

    bool present() const { return page_ != nullptr; }
    std::uint64_t wall_time() const;

    /// The domain report over the nonce. Throws Failed.
    std::string report(const std::string &nonce);

private:
    std::uint32_t read(std::uint32_t offset) const { return page_[offset / 4]; }
    void write(std::uint32_t offset, std::uint32_t value) { page_[offset / 4] = value; }

    volatile std::uint32_t *page_ = nullptr;
};

} // namespace banyan::agent
