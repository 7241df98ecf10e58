// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstddef>
#include <cstdint>

// Resets the domain's PCI functions before anything is measured. Code that ran before the launch may have left them with
// work to do, and the launch window keeps them away from the loader alone: a function that still writes into memory could change a kernel
// after it was measured. A function-level reset ends that and forgets every address.

namespace banyan::loader {

namespace pci {
inline constexpr std::uint32_t kVendor = 0x00;  // u16
inline constexpr std::uint32_t kCommand = 0x04; // u16
inline constexpr std::uint32_t kStatus = 0x06;  // u16
inline constexpr std::uint32_t kHeaderType = 0x0E;
inline constexpr std::uint32_t kCapabilities = 0x34;
inline constexpr std::uint16_t kBusMaster = 1u << 2;
inline constexpr std::uint16_t kHasCapabilities = 1u << 4;
inline constexpr std::uint16_t kAbsent = 0xFFFF;

// PCI Express capability, PCIe 5.0, 7.5.3
inline constexpr std::uint8_t kExpress = 0x10;
inline constexpr std::uint32_t kDeviceCapabilities = 0x04;
inline constexpr std::uint32_t kDeviceControl = 0x08;
inline constexpr std::uint32_t kDeviceStatus = 0x0A;
inline constexpr std::uint32_t kCanReset = 1u << 28; // function-level reset
inline constexpr std::uint16_t kInitiateReset = 1u << 15;
inline constexpr std::uint16_t kTransactionsPending = 1u << 5;
} // namespace pci

enum class PciFault : std::uint8_t {
    kNone,
    kBridge,   // not an endpoint: what is behind it is out of sight
    kNoReset,  // no function-level reset
    kPending,  // its transactions did not end
    kNotReset, // it is still a bus master, or did not come back
};

inline const char *describe(PciFault fault)
{
    switch (fault) {
    case PciFault::kNone:
        return "no fault";
    case PciFault::kBridge:
        return "a function is not an endpoint";
    case PciFault::kNoReset:
        return "a function has no function-level reset";
    case PciFault::kPending:
        return "a function's transactions did not end";
    case PciFault::kNotReset:
        return "a function did not come back from its reset";
    }
    return "unknown";
}

/// Config: read8, read16, read32(bus, devfn, offset), write16(bus, devfn, offset, value), pause().
template <typename Config>
class PciReset {
public:
    PciReset(Config &config, std::uint32_t polls) : config_(config), polls_(polls) {}

    /// Every function of a bus. `count` grows by those that were reset.
    [[nodiscard]] PciFault reset_bus(std::uint8_t bus, unsigned &count)
    {
        for (unsigned devfn = 0; devfn < 256; ++devfn) {
            at_ = {bus, static_cast<std::uint8_t>(devfn)};
            if (read16(pci::kVendor) == pci::kAbsent) {
                continue;
            }
            if (const PciFault fault = reset_function(); fault != PciFault::kNone) {
                return fault;
            }
            ++count;
        }
        return PciFault::kNone;
    }

private:
    struct Place {
        std::uint8_t bus;
        std::uint8_t devfn;
    };

    PciFault reset_function()
    {
        if ((config_.read8(at_.bus, at_.devfn, pci::kHeaderType) & 0x7F) != 0) {
            return PciFault::kBridge;
        }
        const std::uint32_t express = find_express();
        if (express == 0 ||
            (config_.read32(at_.bus, at_.devfn, express + pci::kDeviceCapabilities) & pci::kCanReset) == 0) {
            return PciFault::kNoReset;
        }
        write16(pci::kCommand, 0);
        if (!wait([&] { return (read16(express + pci::kDeviceStatus) & pci::kTransactionsPending) == 0; })) {
            return PciFault::kPending;
        }
        write16(express + pci::kDeviceControl,
                static_cast<std::uint16_t>(read16(express + pci::kDeviceControl) | pci::kInitiateReset));
        if (!wait([&] {
                return read16(pci::kVendor) != pci::kAbsent && (read16(pci::kCommand) & pci::kBusMaster) == 0;
            })) {
            return PciFault::kNotReset;
        }
        return PciFault::kNone;
    }

    std::uint32_t find_express()
    {
        if ((read16(pci::kStatus) & pci::kHasCapabilities) == 0) {
            return 0;
        }
        std::uint32_t at = config_.read8(at_.bus, at_.devfn, pci::kCapabilities) & 0xFC;
        for (unsigned left = 48; left != 0 && at >= 0x40; --left) { // a ring of pointers ends too
            if (config_.read8(at_.bus, at_.devfn, at) == pci::kExpress) {
                return at;
            }
            at = config_.read8(at_.bus, at_.devfn, at + 1) & 0xFC;
        }
        return 0;
    }

    template <typename Condition>
    bool wait(Condition condition)
    {
        for (std::uint32_t left = polls_; left != 0; --left, config_.pause()) {
            if (condition()) {
                return true;
            }
        }
        return false;
    }

    std::uint16_t read16(std::uint32_t offset) { return config_.read16(at_.bus, at_.devfn, offset); }
    void write16(std::uint32_t offset, std::uint16_t value) { config_.write16(at_.bus, at_.devfn, offset, value); }

    Config &config_;
    std::uint32_t polls_;
    Place at_{};
};

} // namespace banyan::loader
