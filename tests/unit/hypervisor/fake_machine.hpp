// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <deque>
#include <map>
#include <optional>
#include <vector>

#include "banyan/arch/management.hpp"
#include "hypervisor/cores.hpp"
#include "hypervisor/frame.hpp"
#include "hypervisor/manager.hpp"
#include "hypervisor/pci.hpp"

namespace banyan::hv::test {

/// A machine of its own for each test: serial port, PCI, domain table, memory and cores, as plain as they can be.
/// `changes` counts everything that a refused request must not do.
class FakeMachine {
public:
    // ---- what a test sets

    std::deque<std::uint8_t> line;  // what the other end sends
    std::vector<std::uint8_t> sent; // what it gets
    bool has_table = true;
    bool cores_come_up = true;
    bool domains_run = true; // VMRUN takes a SEALED domain to RUNNING
    unsigned busy_ticks = 0; // how long a command or a receipt takes
    dt::Status seal_status = dt::Status::kOk;
    dt::ReportStatus receipt_outcome = dt::ReportStatus::kReady;
    bool stop_ends = true; // STOPPING becomes DIRTY

    struct Domain {
        dt::State state = dt::State::kEmpty;
        dt::EndReason reason = dt::EndReason::kNone;
        dt::Status status = dt::Status::kOk;
        std::array<std::uint8_t, sizeof(dt::Descriptor)> descriptor{};
        std::uint64_t start_count = 0;
        bool erased = false;
    };
    std::array<Domain, dt::kMaxDomains + 1> domains;
    std::vector<std::uint64_t> gate_writes;
    std::vector<std::uint32_t> started_cores; // in order of their SIPI
    std::vector<std::uint32_t> reset_cores;
    unsigned changes = 0;
    unsigned ticks = 0;

    using Config = std::array<std::uint32_t, 64>;
    std::map<std::uint32_t, Config> functions; // bus << 8 | devfn, by the bus number that the descriptor gives
    std::vector<std::uint8_t> secondary_resets;

    // ---- memory: a page appears when it is written

    void write_memory(std::uint64_t at, const void *from, std::size_t size)
    {
        for (std::size_t i = 0; i < size; ++i) {
            memory_[(at + i) / 4096][(at + i) % 4096] = static_cast<const std::uint8_t *>(from)[i];
        }
    }

    [[nodiscard]] std::vector<std::uint8_t> memory(std::uint64_t at, std::size_t size)
    {
        std::vector<std::uint8_t> bytes(size);
        read(bytes.data(), at, size);
        return bytes;
    }

    void read(void *to, std::uint64_t from, std::size_t size)
    {
        for (std::size_t i = 0; i < size; ++i) {
            const auto page = memory_.find((from + i) / 4096);
            static_cast<std::uint8_t *>(to)[i] = page == memory_.end() ? 0 : page->second[(from + i) % 4096];
        }
    }

    void copy(std::uint64_t to, std::uint64_t from, std::uint64_t size)
    {
        ++changes;
        const std::vector<std::uint8_t> bytes = memory(from, size);
        write_memory(to, bytes.data(), bytes.size());
    }

    // ---- ports

    std::uint8_t in8(std::uint16_t port)
    {
        if (port == uart::kLineStatus) {
            return static_cast<std::uint8_t>(uart::kTransmitEmpty | (line.empty() ? 0 : uart::kDataReady));
        }
        if (port == uart::kData && !line.empty()) {
            const std::uint8_t byte = line.front();
            line.pop_front();
            return byte;
        }
        return 0xFF;
    }

    void out8(std::uint16_t port, std::uint8_t value)
    {
        if (port == uart::kLineControl) {
            divisor_ = (value & uart::kDlab) != 0;
        } else if (port == uart::kData && !divisor_) {
            sent.push_back(value);
        }
    }

    std::uint32_t in32(std::uint16_t port)
    {
        Config *config = port == pci::kDataPort ? selected() : nullptr;
        return config == nullptr ? ~std::uint32_t{0} : (*config)[config_address_ >> 2 & 0x3F];
    }

    void out32(std::uint16_t port, std::uint32_t value)
    {
        if (port == pci::kAddressPort) {
            config_address_ = value;
            return;
        }
        ++changes;
        Config *config = selected();
        if (config == nullptr) {
            return;
        }
        const std::uint32_t reg = config_address_ & 0xFC;
        std::uint32_t &word = (*config)[reg >> 2];
        if (reg == pci::kBridgeControl && (~word & value & pci::kSecondaryReset) != 0) {
            secondary_resets.push_back(static_cast<std::uint8_t>(config_address_ >> 8));
        }
        word = value;
    }

    // ---- MMIO

    std::uint32_t read32(std::uint64_t at)
    {
        const std::uint64_t reg = at - dt::kControlBase;
        if (reg >= dt::kControlSize || !has_table) {
            return at >= dt::kLapicBase ? 0 : ~std::uint32_t{0};
        }
        Domain &d = domains[select_];
        if (reg >= dt::control::kDescriptor) {
            std::uint32_t word = 0;
            std::memcpy(&word, d.descriptor.data() + (reg - dt::control::kDescriptor), sizeof word);
            return word;
        }
        if (reg >= dt::control::kReceiptData) {
            std::uint32_t word = 0;
            std::memcpy(&word, receipt_.data() + (reg - dt::control::kReceiptData), sizeof word);
            return word;
        }
        switch (reg) {
        case dt::control::kId:
            return dt::kOwnId;
        case dt::control::kVersion:
            return 1;
        case dt::control::kStatus:
            return static_cast<std::uint32_t>(busy_ > 0 ? dt::Status::kBusy : d.status);
        case dt::control::kState:
            return static_cast<std::uint32_t>(d.state);
        case dt::control::kReason:
            return static_cast<std::uint32_t>(d.reason);
        case dt::control::kReceiptStatus:
            return static_cast<std::uint32_t>(busy_ > 0 ? dt::ReportStatus::kBusy : receipt_outcome);
        case dt::control::kReceiptSize:
            return nonce_size_ + 1;
        default:
            return 0;
        }
    }

    std::uint64_t read64(std::uint64_t at)
    {
        return at - dt::kControlBase == dt::control::kStartCount ? domains[select_].start_count : 0;
    }

    void write32(std::uint64_t at, std::uint32_t value)
    {
        const std::uint64_t reg = at - dt::kControlBase;
        if (at == dt::kLapicBase + lapic::kIcrHigh) {
            target_ = value >> 24;
        } else if (at == dt::kLapicBase + lapic::kIcrLow) {
            ++changes;
            interrupt(value);
        } else if (reg == dt::control::kSelect) {
            select_ = value;
        } else if (reg == dt::control::kCommand) {
            ++changes;
            command(dt::Command{value});
        } else if (reg >= dt::control::kDescriptor && reg < dt::control::kDescriptor + sizeof(dt::Descriptor)) {
            ++changes;
            if (domains[select_].state == dt::State::kBuilding) {
                std::memcpy(domains[select_].descriptor.data() + (reg - dt::control::kDescriptor), &value,
                            sizeof value);
            }
        } else if (reg >= dt::control::kNonce && reg < dt::control::kNonce + dt::own::kNonceMax) {
            std::memcpy(nonce_.data() + (reg - dt::control::kNonce), &value, sizeof value);
        } else if (reg == dt::control::kNonceSize) {
            nonce_size_ = value;
        }
    }

    void write64(std::uint64_t at, std::uint64_t value)
    {
        if (at == dt::kControlBase + dt::control::kGateOpen) {
            ++changes;
            gate_writes.push_back(value);
        }
    }

    // ---- time and cores

    void idle()
    {
        ++ticks;
        busy_ -= busy_ > 0 ? 1 : 0;
    }

    Mailbox &mailbox(std::uint32_t core) { return mailboxes_[core]; }
    void prepare(std::uint32_t) { ++changes; }

    [[nodiscard]] dt::Descriptor descriptor(std::uint32_t domain) const
    {
        dt::Descriptor d;
        std::memcpy(&d, domains[domain].descriptor.data(), sizeof d);
        return d;
    }

private:
    Config *selected()
    {
        const std::uint32_t bus = config_address_ >> 16 & 0xFF;
        const std::uint32_t devfn = config_address_ >> 8 & 0xFF;
        bool routed = bus == 0;
        for (const auto &[where, config] : functions) {
            const bool bridge = where < 256 && (config[pci::kHeader >> 2] >> 16 & 0x7F) == 1;
            routed |= bridge && (config[pci::kBuses >> 2] >> 8 & 0xFF) == bus;
        }
        const auto found = functions.find(bus << 8 | devfn);
        return routed && found != functions.end() ? &found->second : nullptr;
    }

    void command(dt::Command command)
    {
        Domain &d = domains[select_];
        busy_ = busy_ticks;
        d.status = dt::Status::kBadState;
        switch (command) {
        case dt::Command::kCreate:
            if (d.state != dt::State::kEmpty) {
                return;
            }
            d = {};
            d.state = dt::State::kBuilding;
            break;
        case dt::Command::kSeal:
            if (d.state == dt::State::kBuilding && seal_status != dt::Status::kOk) {
                d.status = seal_status;
                return;
            }
            if (d.state == dt::State::kBuilding) {
                d.state = dt::State::kSealed;
                d.start_count = 1;
                break;
            }
            return;
        case dt::Command::kStop:
            if (d.state != dt::State::kSealed && d.state != dt::State::kRunning) {
                return;
            }
            d.state = stop_ends ? dt::State::kDirty : dt::State::kStopping;
            d.reason = dt::EndReason::kStopped;
            break;
        case dt::Command::kDelete:
        case dt::Command::kErase:
            if (d.state != dt::State::kBuilding && d.state != dt::State::kDirty) {
                return;
            }
            d = {};
            d.erased = command == dt::Command::kErase;
            break;
        case dt::Command::kReceipt:
            receipt_ = {};
            receipt_[0] = 'R';
            std::copy_n(nonce_.begin(), std::min<std::size_t>(nonce_size_, nonce_.size()), receipt_.begin() + 1);
            break;
        }
        d.status = dt::Status::kOk;
    }

    void interrupt(std::uint32_t command)
    {
        if (command == lapic::kInit) {
            reset_cores.push_back(target_);
            return;
        }
        started_cores.push_back(target_);
        Mailbox &box = mailboxes_[target_];
        Domain &d = domains[box.domain];
        if (cores_come_up) {
            box.phase = Phase::kEntering;
            if (d.state == dt::State::kSealed && domains_run) {
                d.state = dt::State::kRunning;
            }
        }
    }

    std::map<std::uint64_t, std::array<std::uint8_t, 4096>> memory_;
    std::array<Mailbox, dt::kMaxCores> mailboxes_{};
    std::array<std::uint8_t, dt::own::kReportMax> receipt_{};
    std::array<std::uint8_t, dt::own::kNonceMax> nonce_{};
    std::uint32_t nonce_size_ = 0;
    std::uint32_t config_address_ = 0;
    std::uint32_t select_ = 0;
    std::uint32_t target_ = 0;
    unsigned busy_ = 0;
    bool divisor_ = false;
};

// ---- one good machine and one good request ------------------------------------------------------------------------

inline constexpr std::uint64_t kMib = 1 << 20;
inline constexpr Extent kHypervisor{2 * kMib, kMib};

inline Modules good_modules()
{
    Modules modules{};
    modules.module[0] = {"kernel", {4 * kMib, 100'000}};
    modules.module[1] = {"initrd", {8 * kMib, 200'000}};
    modules.count = 2;
    return modules;
}

/// Domain n's share of the machine: core n, 256 MiB of RAM, bus 10h + n behind 00:(3 + n).0.
inline mgmt::CreateRequest good_request(std::uint32_t domain = 1)
{
    mgmt::CreateRequest r{};
    r.domain = domain;
    r.placement_count = 2;
    r.nonce_size = 20;
    std::fill_n(r.nonce, r.nonce_size, std::uint8_t{0x5A});
    dt::Descriptor &d = r.descriptor;
    d.magic = dt::kDescriptorMagic;
    d.version = dt::kDescriptorVersion;
    d.size = sizeof d;
    std::strcpy(d.name, "vm-1");
    d.core_mask = std::uint64_t{1} << domain;
    d.boot_core = domain;
    d.vtpm_instance = domain;
    d.msr_profile = d.port_profile = 1;
    d.range_count = 2;
    d.ranges[0] = {0, 0x1000'0000 + domain * kMib, 0xA'0000};
    d.ranges[1] = {kMib, 0x2000'0000 + domain * 256 * kMib, 255 * kMib};
    d.window_count = 2;
    d.windows[0] = {kEcam + (0x10 + domain) * kMib, kMib};
    d.windows[1] = {0xC000'0000 + domain * 32 * kMib, 32 * kMib};
    d.root_port_count = 1;
    d.root_ports[0] = {static_cast<std::uint8_t>((3 + domain) << 3), static_cast<std::uint8_t>(0x10 + domain), {}};
    d.port_count = 1;
    d.ports[0] = {0x2F8, 0x2FF, dt::PortAction::kAllow, 0, {}};
    d.msr_count = 1;
    d.msrs[0] = {0x10, dt::MsrAction::kPass, {}, 0, 0};
    d.entry = {0x2'0000, 0, 0, 0};
    r.placements[0] = {"kernel", 0x600'0000};
    r.placements[1] = {"initrd", 0x800'0000};
    return r;
}

/// Header and payload of a request, with a right CRC.
inline Frame request_frame(mgmt::Type type, const void *payload = nullptr, std::size_t size = 0)
{
    Frame frame{};
    frame.header.magic = mgmt::kMagic;
    frame.header.version = mgmt::kVersion;
    frame.header.type = static_cast<std::uint16_t>(type);
    frame.header.sequence = 77;
    frame.header.length = static_cast<std::uint32_t>(size);
    if (size > 0) {
        std::memcpy(frame.payload, payload, size);
    }
    frame.header.crc = frame_crc(frame);
    return frame;
}

inline std::vector<std::uint8_t> bytes_of(const Frame &frame)
{
    std::vector<std::uint8_t> bytes(sizeof frame.header + frame.header.length);
    std::memcpy(bytes.data(), &frame.header, sizeof frame.header);
    std::memcpy(bytes.data() + sizeof frame.header, frame.payload, frame.header.length);
    return bytes;
}

/// Four bridges at 00:04.0 to 00:07.0, each with functions 0 and 1 behind it, as firmware may have left them.
inline void add_pci(FakeMachine &machine)
{
    const auto function = [](std::uint32_t header) {
        FakeMachine::Config config{};
        config.fill(0x1111'1111);
        config[pci::kId >> 2] = 0x000C'1B36;
        config[pci::kHeader >> 2] = header << 16;
        config[pci::kCommand >> 2] = 0x0010'0007;
        return config;
    };
    machine.functions[0x00] = function(0);
    machine.functions[0xFA] = function(0x80);
    for (std::uint32_t n = 1; n <= 4; ++n) {
        machine.functions[(3 + n) << 3] = function(1);
        machine.functions[(3 + n) << 3][pci::kBuses >> 2] = n << 16 | n << 8;
        machine.functions[(0x10 + n) << 8] = function(0x80);
        machine.functions[(0x10 + n) << 8 | 1] = function(0);
    }
}

} // namespace banyan::hv::test
