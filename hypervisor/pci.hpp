// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstdint>

#include "banyan/arch/domain_table.hpp"
#include "hypervisor/checks.hpp"
#include "hypervisor/layout.hpp"

// PCI by configuration mechanism 1. A domain's functions lie behind a root port, whose window confines them whatever
// the guest writes to their BARs; so its numbers are made static here, and the firmware's assignment is undone.

namespace banyan::hv {

// PCI Local Bus 3.0, 6.1; PCI-to-PCI Bridge 1.2, 3.2
namespace pci {
inline constexpr std::uint16_t kAddressPort = 0xCF8;
inline constexpr std::uint16_t kDataPort = 0xCFC;
inline constexpr std::uint8_t kId = 0x00;
inline constexpr std::uint8_t kCommand = 0x04;
inline constexpr std::uint8_t kHeader = 0x0C;       // header type in bits 23:16
inline constexpr std::uint8_t kFirstBar = 0x10;     // six of them, type 0
inline constexpr std::uint8_t kExpansionRom = 0x30; // type 0
inline constexpr std::uint8_t kBuses = 0x18;        // type 1: primary, secondary, subordinate
inline constexpr std::uint8_t kIo = 0x1C;
inline constexpr std::uint8_t kMemory = 0x20;
inline constexpr std::uint8_t kPrefetch = 0x24;      // and the upper halves at 28h, 2Ch
inline constexpr std::uint8_t kBridgeControl = 0x3C; // bits 31:16
inline constexpr std::uint32_t kIoMemoryMaster = 7;
inline constexpr std::uint32_t kBusMaster = 4;
inline constexpr std::uint32_t kIoClosed = 0x00F0;
inline constexpr std::uint32_t kMemoryClosed = 0x0000'FFF0;
inline constexpr std::uint32_t kSecondaryReset = 1u << 22;
inline constexpr std::uint32_t kEcamRegister = 0x60; // of the q35 host bridge: PCIEXBAR, Intel 3 Series, 5.1.16
} // namespace pci

/// Machine: in32, out32.
template <typename Machine>
class Pci {
public:
    explicit Pci(Machine &machine) : machine_{machine} {}

    /// Takes bus 0 over from the firmware: ECAM where the descriptors expect it, no function may master the bus, and
    /// every bridge is shut.
    void take_over()
    {
        write(0, 0, pci::kEcamRegister, 0);
        write(0, 0, pci::kEcamRegister + 4, 0);
        write(0, 0, pci::kEcamRegister, static_cast<std::uint32_t>(kEcam) | 1); // 256 MiB, enabled
        for (unsigned devfn = 0; devfn < 256; ++devfn) {
            const auto function = static_cast<std::uint8_t>(devfn);
            if (!answers(0, function)) {
                continue;
            }
            if (is_bridge(function)) {
                set_command(0, function, 0);
                set_bridge(function, 0, pci::kMemoryClosed);
            } else {
                set_command(0, function, read(0, function, pci::kCommand) & 0xFFFF & ~pci::kBusMaster);
            }
        }
    }

    [[nodiscard]] bool is_bridge(std::uint8_t devfn)
    {
        return answers(0, devfn) && (read(0, devfn, pci::kHeader) >> 16 & 0x7F) == 1;
    }

    /// The root ports of a valid descriptor, which are bridges, and the functions behind them: reset, without
    /// addresses, ready for the guest.
    void assign(const dt::Descriptor &d)
    {
        std::uint32_t next_window = 0;
        for (std::uint32_t i = 0; i < d.root_port_count; ++i) {
            while (next_window < d.window_count && !is_bridge_window(d.windows[next_window])) {
                ++next_window;
            }
            std::uint32_t memory = pci::kMemoryClosed;
            if (next_window < d.window_count) {
                const dt::Window &w = d.windows[next_window++];
                memory = static_cast<std::uint32_t>(w.base >> 16 | ((w.base + w.size - 1) & 0xFFF0'0000));
            }
            const dt::RootPort &port = d.root_ports[i];
            set_command(0, port.devfn, 0);
            set_bridge(port.devfn, port.secondary, pci::kMemoryClosed);
            const std::uint32_t control = read(0, port.devfn, pci::kBridgeControl) & ~pci::kSecondaryReset;
            write(0, port.devfn, pci::kBridgeControl, control | pci::kSecondaryReset);
            write(0, port.devfn, pci::kBridgeControl, control);
            for (std::uint8_t function = 0; function < 8; ++function) {
                clear_function(port.secondary, function);
            }
            set_bridge(port.devfn, port.secondary, memory);
            set_command(0, port.devfn, pci::kIoMemoryMaster);
        }
    }

private:
    void select(std::uint8_t bus, std::uint8_t devfn, std::uint32_t reg)
    {
        machine_.out32(pci::kAddressPort, 1u << 31 | std::uint32_t{bus} << 16 | std::uint32_t{devfn} << 8 | reg);
    }

    [[nodiscard]] std::uint32_t read(std::uint8_t bus, std::uint8_t devfn, std::uint32_t reg)
    {
        select(bus, devfn, reg);
        return machine_.in32(pci::kDataPort);
    }

    void write(std::uint8_t bus, std::uint8_t devfn, std::uint32_t reg, std::uint32_t value)
    {
        select(bus, devfn, reg);
        machine_.out32(pci::kDataPort, value);
    }

    [[nodiscard]] bool answers(std::uint8_t bus, std::uint8_t devfn)
    {
        return (read(bus, devfn, pci::kId) & 0xFFFF) != 0xFFFF;
    }

    /// The upper half of the register is status, whose set bits a one would clear.
    void set_command(std::uint8_t bus, std::uint8_t devfn, std::uint32_t command)
    {
        write(bus, devfn, pci::kCommand, command);
    }

    void set_bridge(std::uint8_t devfn, std::uint8_t secondary, std::uint32_t memory)
    {
        write(0, devfn, pci::kBuses, std::uint32_t{secondary} << 16 | std::uint32_t{secondary} << 8);
        write(0, devfn, pci::kIo, pci::kIoClosed);
        write(0, devfn, pci::kMemory, memory);
        write(0, devfn, pci::kPrefetch, pci::kMemoryClosed);
        write(0, devfn, pci::kPrefetch + 4, 0);
        write(0, devfn, pci::kPrefetch + 8, 0);
    }

    void clear_function(std::uint8_t bus, std::uint8_t function)
    {
        if (!answers(bus, function)) {
            return;
        }
        set_command(bus, function, 0);
        for (std::uint32_t bar = 0; bar < 6; ++bar) {
            write(bus, function, pci::kFirstBar + 4 * bar, 0);
        }
        write(bus, function, pci::kExpansionRom, 0);
    }

    Machine &machine_;
};

} // namespace banyan::hv
