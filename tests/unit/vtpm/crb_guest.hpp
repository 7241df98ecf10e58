// SPDX-License-Identifier: GPL-2.0-or-later
// A guest that drives the window the way Linux 6.1's tpm_crb does: the order of its accesses, their widths, the bits
// that it waits for.
#pragma once

#include "tests/unit/vtpm/vtpm_machine.hpp"
#include "vtpm/chip/crb_regs.hpp"

namespace banyan::vtpm::testing {

class CrbGuest {
public:
    explicit CrbGuest(banyan_vtpm *vtpm, std::uint32_t domain = 0) : vtpm_(vtpm)
    {
        cycle.size = sizeof(cycle);
        cycle.requester = static_cast<std::uint8_t>(domain + 1);
        cycle.from_core = 1;
    }

    [[nodiscard]] std::uint64_t read_at(unsigned locality, std::uint32_t offset, unsigned width)
    {
        std::uint64_t value = 0;
        EXPECT_EQ(banyan_vtpm_mmio_read(vtpm_, &cycle, locality * 0x1000U + offset, width, &value), 0);
        return value;
    }
    void write_at(unsigned locality, std::uint32_t offset, std::uint64_t value, unsigned width)
    {
        EXPECT_EQ(banyan_vtpm_mmio_write(vtpm_, &cycle, locality * 0x1000U + offset, width, value), 0);
    }
    [[nodiscard]] std::uint32_t read(unsigned locality, crb::Reg reg)
    {
        return static_cast<std::uint32_t>(read_at(locality, static_cast<std::uint32_t>(reg), 4));
    }
    void write(unsigned locality, crb::Reg reg, std::uint32_t value)
    {
        write_at(locality, static_cast<std::uint32_t>(reg), value, 4);
    }
    [[nodiscard]] bool wait_for(unsigned locality, crb::Reg reg, std::uint32_t mask, std::uint32_t want)
    {
        for (int i = 0; i < 100000; ++i) {
            if ((read(locality, reg) & mask) == want) {
                return true;
            }
            if (i > 2) {
                std::this_thread::sleep_for(std::chrono::microseconds(100));
            }
            cycle.vtime_ns += 100'000;
        }
        return false;
    }

    /// crb_request_locality
    [[nodiscard]] bool request(unsigned locality)
    {
        constexpr std::uint32_t kMask = crb::LocState::LocAssigned::kMask | crb::LocState::TpmRegValidSts::kMask;
        write(locality, crb::Reg::kLocCtrl, crb::LocCtrl::RequestAccess::kMask);
        return wait_for(locality, crb::Reg::kLocState, kMask, kMask);
    }
    /// crb_relinquish_locality
    [[nodiscard]] bool relinquish(unsigned locality)
    {
        constexpr std::uint32_t kMask = crb::LocState::LocAssigned::kMask | crb::LocState::TpmRegValidSts::kMask;
        write(locality, crb::Reg::kLocCtrl, crb::LocCtrl::Relinquish::kMask);
        return wait_for(locality, crb::Reg::kLocState, kMask, crb::LocState::TpmRegValidSts::kMask);
    }
    /// crb_cmd_ready
    [[nodiscard]] bool command_ready(unsigned locality)
    {
        write(locality, crb::Reg::kCtrlReq, crb::CtrlReq::CmdReady::kMask);
        return wait_for(locality, crb::Reg::kCtrlReq, crb::CtrlReq::CmdReady::kMask, 0);
    }
    /// crb_go_idle
    [[nodiscard]] bool go_idle(unsigned locality)
    {
        write(locality, crb::Reg::kCtrlReq, crb::CtrlReq::GoIdle::kMask);
        return wait_for(locality, crb::Reg::kCtrlReq, crb::CtrlReq::GoIdle::kMask, 0);
    }
    /// memcpy_toio: eight bytes at a time, then the rest
    void put(unsigned locality, const Bytes &bytes)
    {
        std::size_t at = 0;
        while (at < bytes.size()) {
            const unsigned width = bytes.size() - at >= 8 ? 8 : 1;
            std::uint64_t value = 0;
            for (unsigned i = 0; i < width; ++i) {
                value |= std::uint64_t{bytes[at + i]} << (8 * i);
            }
            write_at(locality, crb::kDataBufferAt + static_cast<std::uint32_t>(at), value, width);
            at += width;
        }
    }
    /// crb_send
    void send(unsigned locality, const Bytes &command)
    {
        write(locality, crb::Reg::kCtrlCancel, 0);
        put(locality, command);
        write(locality, crb::Reg::kCtrlStart, crb::CtrlStart::Start::kMask);
    }
    /// crb_status, crb_recv
    [[nodiscard]] bool complete(unsigned locality)
    {
        return wait_for(locality, crb::Reg::kCtrlStart, crb::CtrlStart::Start::kMask, 0);
    }
    [[nodiscard]] Bytes receive(unsigned locality)
    {
        if (!complete(locality) || (read(locality, crb::Reg::kCtrlSts) & crb::CtrlSts::TpmSts::kMask) != 0) {
            return {};
        }
        Bytes response;
        std::size_t size = 8;
        while (response.size() < size) {
            const unsigned width = size - response.size() >= 8 ? 8 : 1;
            const std::uint64_t value =
                read_at(locality, crb::kDataBufferAt + static_cast<std::uint32_t>(response.size()), width);
            for (unsigned i = 0; i < width; ++i) {
                response.push_back(static_cast<std::uint8_t>(value >> (8 * i)));
            }
            if (response.size() == 8) {
                size = std::min<std::size_t>(load_be32(response, kTpmSizeAt), crb::kDataBufferSize);
            }
        }
        return response;
    }

    /// Between tpm_chip_start and tpm_chip_stop: any number of them for one cmdReady.
    [[nodiscard]] Bytes transmit(unsigned locality, const Bytes &bytes)
    {
        send(locality, bytes);
        return receive(locality);
    }
    [[nodiscard]] Bytes command(unsigned locality, const Bytes &bytes)
    {
        EXPECT_TRUE(request(locality));
        EXPECT_TRUE(command_ready(locality));
        Bytes response = transmit(locality, bytes);
        EXPECT_TRUE(go_idle(locality));
        EXPECT_TRUE(relinquish(locality));
        return response;
    }
    [[nodiscard]] Bytes command(const Bytes &bytes) { return command(0, bytes); }

    banyan_cycle cycle{};

private:
    banyan_vtpm *vtpm_;
};

} // namespace banyan::vtpm::testing
