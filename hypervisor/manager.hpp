// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstdint>

#include "banyan/arch/management.hpp"
#include "hypervisor/checks.hpp"
#include "hypervisor/cores.hpp"
#include "hypervisor/domain_table.hpp"
#include "hypervisor/frame.hpp"
#include "hypervisor/modules.hpp"
#include "hypervisor/pci.hpp"

namespace banyan::hv {

/// What a request came to.
struct Outcome {
    mgmt::Result result = mgmt::Result::kOk;
    dt::Status detail = dt::Status::kOk; // with kRefused

    [[nodiscard]] bool ok() const { return result == mgmt::Result::kOk; }
};

/// The requests. It keeps no state of a domain: that is the domain table's. A request that fails leaves every domain
/// as it was, except that a domain whose start failed is stopped.
template <typename Machine>
class Manager {
public:
    Manager(Machine &machine, const Modules &modules, Extent hypervisor)
        : machine_{machine},
          modules_{modules},
          hypervisor_{hypervisor},
          table_{machine},
          cores_{machine},
          pci_{machine}
    {
        pci_.take_over();
    }

    /// Turns a received frame into its response; `valid`: Channel::receive found it whole.
    void handle(Frame &frame, bool valid)
    {
        const Outcome outcome = valid ? dispatch(frame) : Outcome{mgmt::Result::kBadFrame};
        frame.header.type |= mgmt::kResponse;
        frame.header.result = static_cast<std::uint32_t>(outcome.result);
        frame.header.detail = static_cast<std::uint32_t>(outcome.detail);
        if (!outcome.ok()) {
            frame.header.length = 0;
        }
    }

private:
    static constexpr Outcome kBadField{mgmt::Result::kBadField};
    static constexpr Outcome kNoTable{mgmt::Result::kRefused, dt::Status::kBadDomain};

    [[nodiscard]] static Outcome outcome_of(dt::Status status)
    {
        switch (status) {
        case dt::Status::kOk:
            return {};
        case dt::Status::kBadState:
            return {mgmt::Result::kBadState};
        case dt::Status::kBusy:
        case dt::Status::kBadDescriptor:
        case dt::Status::kOverlap:
        case dt::Status::kNoInstance:
        case dt::Status::kBadDomain:
            break;
        }
        return {mgmt::Result::kRefused, status};
    }

    [[nodiscard]] Outcome dispatch(Frame &frame)
    {
        const std::uint32_t length = frame.header.length;
        frame.header.length = 0;
        const auto request = [&](std::size_t size, auto serve) {
            if (length != size) {
                return Outcome{mgmt::Result::kBadFrame};
            }
            return table_.present() ? serve() : kNoTable;
        };
        switch (mgmt::Type{frame.header.type}) {
        case mgmt::Type::kCreate:
            return request(sizeof(mgmt::CreateRequest), [&] { return create(frame); });
        case mgmt::Type::kDelete:
            return request(sizeof(mgmt::DomainRequest), [&] { return remove(frame.as<mgmt::DomainRequest>()); });
        case mgmt::Type::kStart:
            return request(sizeof(mgmt::StartRequest), [&] { return start(frame.as<mgmt::StartRequest>().domains); });
        case mgmt::Type::kStop:
            return request(sizeof(mgmt::DomainRequest), [&] { return stop(frame.as<mgmt::DomainRequest>()); });
        case mgmt::Type::kStatus:
            return request(0, [&] { return status(frame); });
        case mgmt::Type::kHello:
            break;
        }
        return {mgmt::Result::kUnknown};
    }

    // ---- create

    [[nodiscard]] Outcome create(Frame &frame)
    {
        const auto request = frame.as<mgmt::CreateRequest>();
        const mgmt::Result check = check_create(request, modules_, hypervisor_);
        if (check != mgmt::Result::kOk) {
            return {check, check == mgmt::Result::kRefused ? dt::Status::kOverlap : dt::Status::kOk};
        }
        const dt::Descriptor &descriptor = request.descriptor;
        for (std::uint32_t i = 0; i < descriptor.root_port_count; ++i) {
            if (!pci_.is_bridge(descriptor.root_ports[i].devfn)) {
                return kBadField;
            }
        }
        if (shares_bridge(request.domain, descriptor)) {
            return {mgmt::Result::kRefused, dt::Status::kOverlap};
        }
        table_.select(request.domain);
        const dt::Status created = table_.command(dt::Command::kCreate);
        if (created != dt::Status::kOk) {
            return outcome_of(created);
        }
        const Outcome built = build(request, frame);
        if (!built.ok()) { // back to EMPTY
            (void)table_.command(dt::Command::kStop);
            (void)table_.command(dt::Command::kDelete);
        }
        return built;
    }

    /// From BUILDING to SEALED, with the receipt in the frame.
    [[nodiscard]] Outcome build(const mgmt::CreateRequest &request, Frame &frame)
    {
        pci_.assign(request.descriptor);
        table_.write_descriptor(request.descriptor);
        for (std::uint32_t i = 0; i < request.placement_count; ++i) {
            const mgmt::Placement &placement = request.placements[i];
            const Extent source = modules_.find(placement.module)->extent;
            machine_.copy(host_address(request.descriptor, placement.gpa, source.size), source.base, source.size);
        }
        const dt::Status sealed = table_.command(dt::Command::kSeal);
        if (sealed != dt::Status::kOk) {
            return outcome_of(sealed);
        }
        static std::uint8_t receipt[dt::own::kReportMax];
        const std::uint32_t size = table_.receipt(request.nonce, request.nonce_size, receipt);
        if (size == 0) {
            return {mgmt::Result::kRefused, dt::Status::kNoInstance};
        }
        __builtin_memcpy(frame.payload, receipt, size);
        frame.header.length = size;
        return {};
    }

    /// The domain table knows functions, but a bridge is programmed before it looks: no other domain may use the
    /// root port, its bus number or its memory window.
    [[nodiscard]] bool shares_bridge(std::uint32_t domain, const dt::Descriptor &d)
    {
        for (std::uint32_t other = 1; other <= dt::kMaxDomains; ++other) {
            table_.select(other);
            if (other == domain || table_.state() == dt::State::kEmpty) {
                continue;
            }
            const dt::Descriptor theirs = table_.descriptor();
            for (std::uint32_t i = 0; i < d.root_port_count; ++i) {
                for (std::uint32_t j = 0; j < theirs.root_port_count && j < dt::kMaxFunctions; ++j) {
                    if (d.root_ports[i].devfn == theirs.root_ports[j].devfn ||
                        d.root_ports[i].secondary == theirs.root_ports[j].secondary) {
                        return true;
                    }
                }
            }
            for (std::uint32_t i = 0; i < d.window_count; ++i) {
                for (std::uint32_t j = 0; j < theirs.window_count && j < dt::kMaxWindows; ++j) {
                    if (overlap({d.windows[i].base, d.windows[i].size},
                                {theirs.windows[j].base, theirs.windows[j].size})) {
                        return true;
                    }
                }
            }
        }
        return false;
    }

    // ---- start

    [[nodiscard]] Outcome start(std::uint64_t domains)
    {
        if (domains == 0 || (domains & 1) != 0 || domains >> (dt::kMaxDomains + 1) != 0) {
            return kBadField;
        }
        for (std::uint32_t d = 1; d <= dt::kMaxDomains; ++d) {
            table_.select(d);
            if (contains(domains, d) && table_.state() != dt::State::kSealed) {
                return {mgmt::Result::kBadState};
            }
        }
        bool running = true;
        for (std::uint32_t d = 1; running && d <= dt::kMaxDomains; ++d) {
            running = !contains(domains, d) || enter(d);
        }
        if (!running) {
            for (std::uint32_t d = 1; d <= dt::kMaxDomains; ++d) {
                if (contains(domains, d)) {
                    (void)stop({d, 0});
                }
            }
            return {mgmt::Result::kNoCore};
        }
        table_.open_gates(domains);
        return {};
    }

    /// The boot core goes last: when it runs, its siblings wait for SIPI already.
    [[nodiscard]] bool enter(std::uint32_t domain)
    {
        table_.select(domain);
        const dt::Descriptor descriptor = table_.descriptor();
        const std::uint64_t boot = std::uint64_t{1} << descriptor.boot_core;
        for (std::uint32_t core = 1; core < dt::kMaxCores; ++core) {
            if (contains(descriptor.core_mask & ~boot, core) && !cores_.start(core, domain)) {
                return false;
            }
        }
        return cores_.start(descriptor.boot_core, domain) &&
               table_.wait([&] { return table_.state() != dt::State::kSealed; });
    }

    // ---- the rest

    [[nodiscard]] Outcome stop(const mgmt::DomainRequest &request)
    {
        if (!valid_domain(request.domain) || request.erase != 0) {
            return kBadField;
        }
        table_.select(request.domain);
        const dt::Status stopped = table_.command(dt::Command::kStop);
        if (stopped != dt::Status::kOk) {
            return outcome_of(stopped);
        }
        const bool dirty = table_.wait([&] { return table_.state() == dt::State::kDirty; });
        return outcome_of(dirty ? dt::Status::kOk : dt::Status::kBusy);
    }

    [[nodiscard]] Outcome remove(const mgmt::DomainRequest &request)
    {
        if (!valid_domain(request.domain) || request.erase > 1) {
            return kBadField;
        }
        table_.select(request.domain);
        return outcome_of(table_.command(request.erase != 0 ? dt::Command::kErase : dt::Command::kDelete));
    }

    [[nodiscard]] Outcome status(Frame &frame)
    {
        mgmt::StatusResponse response{};
        for (std::uint32_t d = 1; d <= dt::kMaxDomains; ++d) {
            table_.select(d);
            const dt::State state = table_.state();
            const std::uint32_t boot_core =
                state == dt::State::kEmpty ? 0 : table_.descriptor().boot_core % dt::kMaxCores;
            response.domains[d] = {static_cast<std::uint32_t>(state), static_cast<std::uint32_t>(table_.reason()),
                                   table_.start_count(), table_.launch_count(), cores_.exit_code(boot_core, d)};
        }
        frame.set(response);
        return {};
    }

    [[nodiscard]] static constexpr bool contains(std::uint64_t mask, std::uint32_t bit)
    {
        return (mask >> bit & 1) != 0;
    }

    Machine &machine_;
    const Modules &modules_;
    Extent hypervisor_;
    DomainTable<Machine> table_;
    Cores<Machine> cores_;
    Pci<Machine> pci_;
};

} // namespace banyan::hv
