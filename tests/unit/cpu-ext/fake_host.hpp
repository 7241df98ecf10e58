// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <algorithm>
#include <cstring>
#include <map>
#include <ostream>
#include <string>
#include <vector>

#include "cpu-ext/domain/domain_table.hpp"

// A machine for the domain table, and the way to speak to its registers as the host's and a domain's cores do.

namespace banyan::domain {

inline constexpr std::uint64_t kMib = 0x10'0000;

inline constexpr Platform kMachine{
    .cores = 6,
    .ram_below_4g = 2048 * kMib,
    .ram_above_4g = 2048 * kMib,
    .ecam_base = 0xB000'0000,
    .ecam_size = 256 * kMib,
    .pci_base = 0xC000'0000,
    .pci_size = 0x3EC0'0000,
    .insecure = 0,
};

/// A descriptor that SEAL accepts; domains of different numbers share nothing.
inline dt::Descriptor good_descriptor(std::uint32_t number)
{
    dt::Descriptor d{};
    d.magic = dt::kDescriptorMagic;
    d.version = dt::kDescriptorVersion;
    d.size = sizeof(d);
    const std::string name = "vm-" + std::to_string(number);
    std::copy(name.begin(), name.end(), std::begin(d.name));
    d.core_mask = std::uint64_t{1} << number;
    d.boot_core = number;
    d.vtpm_instance = number;
    d.msr_profile = 1;
    d.port_profile = 1;
    d.range_count = 2;
    d.ranges[0] = {0, 256 * kMib + number * kMib, 0xA'0000};
    d.ranges[1] = {kMib, 512 * kMib + number * 256 * kMib, 255 * kMib};
    d.window_count = 2;
    d.windows[0] = {0xB000'0000 + (16 + number) * kMib, kMib};
    d.windows[1] = {0xC000'0000 + number * 32 * kMib, 32 * kMib};
    d.root_port_count = 1;
    d.root_ports[0] = {static_cast<std::uint8_t>((number + 3) << 3), static_cast<std::uint8_t>(16 + number), {}};
    d.port_count = 1;
    d.ports[0] = {0x80, 0x80, dt::PortAction::kAllow, 0, {}};
    d.msr_count = 1;
    d.msrs[0] = {0xC001'0299, dt::MsrAction::kConstant, {}, 0x1234, 0};
    d.entry = {0x2'0000, 1, 2, 3};
    return d;
}

class FakeHost : public Host {
public:
    std::vector<std::string> calls; // what changed the world, in order
    bool instance_on_answer = true;
    std::uint32_t refused = 0; // this one does not come on
    Instance instance = Instance::kReady;
    std::map<std::uint32_t, Instance> instances;   // of single ones, where it differs
    std::map<std::uint32_t, std::uint32_t> behind; // windows
    bool window_is_closed = false;
    bool sign_answer = true;
    Signature signature = Signature::kReady;
    std::string statement = "signed";
    std::uint32_t statement_size = 6;
    ReportFacts facts{};

    bool instance_on(std::uint32_t domain, std::uint32_t window, std::uint32_t number) override
    {
        note("on", domain, number);
        behind[window] = number;
        return instance_on_answer && number != refused;
    }
    void instance_off(std::uint32_t domain, std::uint32_t number) override { note("off", domain, number); }
    void instance_unbind(std::uint32_t domain, std::uint32_t number, bool erase) override
    {
        note(erase ? "erase" : "unbind", domain, number);
    }
    Instance instance_state(std::uint32_t number) override
    {
        const auto one = instances.find(number);
        return one != instances.end() ? one->second : instance;
    }
    void stop_cores(std::uint32_t domain, std::uint64_t mask) override { note("stop", domain, mask); }
    void launch_cancel(std::uint32_t domain) override { note("cancel", domain); }
    void reach_changed(std::uint32_t domain) override { note("reach", domain); }
    void window_lifted(std::uint32_t domain) override
    {
        window_is_closed = false;
        note("lifted", domain);
    }
    bool window_closed(std::uint32_t) override { return window_is_closed; }
    void scrub(std::uint64_t hpa, std::uint64_t size) override { note("scrub", hpa, size); }
    Digest sha384(std::span<const std::byte> data) override
    {
        Digest digest{};
        for (std::size_t i = 0; i < data.size(); ++i) {
            digest[i % digest.size()] =
                static_cast<std::uint8_t>(digest[i % digest.size()] * 31 + static_cast<std::uint8_t>(data[i]) + 1);
        }
        return digest;
    }
    std::uint64_t wall_time() override { return 0x1'6543'2100; }
    bool sign(std::uint32_t slot, const ReportFacts &what) override
    {
        note("sign", slot);
        facts = what;
        return sign_answer;
    }
    Signature sign_poll(std::uint32_t, std::span<std::uint8_t, dt::own::kReportMax> out, std::uint32_t &size) override
    {
        if (signature == Signature::kReady) {
            std::copy(statement.begin(), statement.end(), out.begin());
            size = statement_size;
        }
        return signature;
    }

    template <typename... Numbers>
    void note(const char *what, Numbers... numbers)
    {
        std::string line = what;
        ((line += " " + std::to_string(numbers)), ...);
        calls.push_back(line);
    }

    [[nodiscard]] bool called(const std::string &line) const
    {
        return std::find(calls.begin(), calls.end(), line) != calls.end();
    }
    [[nodiscard]] long count(const std::string &prefix) const
    {
        return std::count_if(calls.begin(), calls.end(), [&](const auto &c) { return c.rfind(prefix, 0) == 0; });
    }
};

/// The host's view through the control window, and helpers to bring a domain somewhere.
class Bench {
public:
    FakeHost host;
    DomainTable table{kMachine, host};

    static constexpr Cycle kHostCore{1, true};
    static constexpr Cycle core_of(std::uint32_t domain) { return {static_cast<std::uint8_t>(domain + 1), true}; }

    std::uint64_t control(std::uint32_t reg, unsigned width = 4)
    {
        return table.mmio_read(kHostCore, WindowKind::kControl, reg, width);
    }
    void control_write(std::uint32_t reg, std::uint64_t value, unsigned width = 4)
    {
        table.mmio_write(kHostCore, WindowKind::kControl, reg, width, value);
    }
    std::uint64_t own(std::uint32_t domain, std::uint32_t reg, unsigned width = 4)
    {
        return table.mmio_read(core_of(domain), WindowKind::kOwn, reg, width);
    }
    void own_write(std::uint32_t domain, std::uint32_t reg, std::uint64_t value, unsigned width = 4)
    {
        table.mmio_write(core_of(domain), WindowKind::kOwn, reg, width, value);
    }

    void select(std::uint32_t domain) { control_write(dt::control::kSelect, domain); }
    dt::Status status(std::uint32_t domain)
    {
        select(domain);
        return static_cast<dt::Status>(control(dt::control::kStatus));
    }
    dt::State state(std::uint32_t domain)
    {
        select(domain);
        return static_cast<dt::State>(control(dt::control::kState));
    }
    dt::EndReason reason(std::uint32_t domain)
    {
        select(domain);
        return static_cast<dt::EndReason>(control(dt::control::kReason));
    }
    dt::Status command(std::uint32_t domain, dt::Command what)
    {
        select(domain);
        control_write(dt::control::kCommand, static_cast<std::uint32_t>(what));
        return status(domain);
    }
    void write_descriptor(std::uint32_t domain, const dt::Descriptor &descriptor)
    {
        select(domain);
        for (std::uint32_t at = 0; at < sizeof(descriptor); at += 8) {
            std::uint64_t word = 0;
            std::memcpy(&word, reinterpret_cast<const char *>(&descriptor) + at, 8);
            control_write(dt::control::kDescriptor + at, word, 8);
        }
    }
    dt::Status seal(std::uint32_t domain, const dt::Descriptor &descriptor)
    {
        command(domain, dt::Command::kCreate);
        write_descriptor(domain, descriptor);
        return command(domain, dt::Command::kSeal);
    }
    dt::Status seal(std::uint32_t domain) { return seal(domain, good_descriptor(domain)); }
    /// Sealed, joined and entered by its boot core.
    bool run(std::uint32_t domain) { return seal(domain) == dt::Status::kOk && start(domain, domain); }
    bool start(std::uint32_t core, std::uint32_t domain)
    {
        return table.join(core, domain) && table.enter(core, domain);
    }
    std::string json() const { return table.json(7); }
    std::uint64_t denied(std::uint32_t domain, const std::string &kind)
    {
        const std::string text = json();
        const std::string start = domain == 0 ? "\"host\":" : "{\"domain\":" + std::to_string(domain) + ",";
        std::size_t at = text.find(start);
        at = text.find("\"denied\":{", at);
        at = text.find("\"" + kind + "\":", at);
        return at == std::string::npos ? ~std::uint64_t{0} : std::stoull(text.substr(at + kind.size() + 3));
    }
};

} // namespace banyan::domain

namespace banyan::dt {

inline void PrintTo(Status status, std::ostream *out)
{
    *out << "Status " << static_cast<unsigned>(status);
}
inline void PrintTo(State state, std::ostream *out)
{
    *out << "State " << static_cast<unsigned>(state);
}

} // namespace banyan::dt
