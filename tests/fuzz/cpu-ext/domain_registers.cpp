// SPDX-License-Identifier: GPL-2.0-or-later
#include <cstdint>
#include <cstring>
#include <string>

#include "cpu-ext/domain/domain_table.hpp"
#include "require.hpp"

// Any sequence of accesses, joins, entries, exits, launches, look-ups and resets. After each: the invariants of the
// domain table.
//
// Input: operations of one byte and its arguments; what is missing at the end is zero.

using namespace banyan;
using namespace banyan::domain;

namespace {

class Input {
public:
    Input(const std::uint8_t *data, std::size_t size) : data_(data), left_(size) {}
    [[nodiscard]] bool empty() const { return left_ == 0; }
    template <typename T>
    T take()
    {
        T value{};
        const std::size_t n = std::min(sizeof(T), left_);
        std::memcpy(&value, data_, n);
        data_ += n;
        left_ -= n;
        return value;
    }

private:
    const std::uint8_t *data_;
    std::size_t left_;
};

struct FuzzHost : Host {
    Instance instance = Instance::kReady;
    Signature signature = Signature::kReady;
    bool yes = true;
    bool on[64] = {};

    bool instance_on(std::uint32_t, std::uint32_t, std::uint32_t number) override
    {
        if (yes && number < 64) {
            REQUIRE(!on[number]); // no instance serves two domains
            on[number] = true;
        }
        return yes;
    }
    void instance_off(std::uint32_t, std::uint32_t) override {}
    void instance_unbind(std::uint32_t, std::uint32_t number, bool erase) override
    {
        REQUIRE(number != 0);
        if (number < 64) {
            REQUIRE(on[number] || erase);
            on[number] = false;
        }
    }
    Instance instance_state(std::uint32_t) override { return instance; }
    void stop_cores(std::uint32_t, std::uint64_t) override {}
    void launch_cancel(std::uint32_t) override {}
    void reach_changed(std::uint32_t) override {}
    void window_lifted(std::uint32_t) override {}
    bool window_closed(std::uint32_t) override { return yes; }
    void scrub(std::uint64_t hpa, std::uint64_t size) override { REQUIRE(hpa + size <= 0x1'8000'0000); }
    Digest sha384(std::span<const std::byte>) override { return {}; }
    std::uint64_t wall_time() override { return 1; }
    bool sign(std::uint32_t slot, const ReportFacts &facts) override
    {
        REQUIRE(slot < 32 && facts.nonce_size >= 1 && facts.nonce_size <= 64);
        return yes;
    }
    Signature sign_poll(std::uint32_t, std::span<std::uint8_t, dt::own::kReportMax> out, std::uint32_t &size) override
    {
        out[0] = 1;
        size = yes ? 4096 : 1;
        return signature;
    }
};

constexpr Platform kMachine{6, 0x8000'0000, 0x8000'0000, 0xB000'0000, 0x1000'0000, 0xC000'0000, 0x3EC0'0000, 0};

/// A descriptor that SEAL accepts, so that random input gets past it.
dt::Descriptor good(std::uint32_t n)
{
    dt::Descriptor d{};
    d.magic = dt::kDescriptorMagic;
    d.version = dt::kDescriptorVersion;
    d.size = sizeof(d);
    d.name[0] = 'v';
    d.core_mask = std::uint64_t{1} << n;
    d.boot_core = n;
    d.vtpm_instance = n;
    d.further_vtpms[0] = n % 2 == 0 ? n + 16 : 0;
    d.msr_profile = d.port_profile = d.range_count = 1;
    d.entry.eip = 0x2'0000;
    d.ranges[0] = {0, 0x1000'0000 * std::uint64_t{n}, 0x800'0000};
    return d;
}

void check(const DomainTable &table)
{
    std::uint64_t taken = 0;
    for (std::uint32_t d = 1; d <= dt::kMaxDomains; ++d) {
        std::uint64_t hpa = 0;
        const auto range = table.range(d, 0);
        REQUIRE(range.has_value() == table.is_closed(d));
        REQUIRE(table.is_closed(d) == (table.cores(d) != 0));
        if (range) {
            REQUIRE(table.translate(0, range->hpa, hpa) == Reach::kNone);
            REQUIRE((taken & table.cores(d)) == 0);
            taken |= table.cores(d);
            REQUIRE(!table.ram(0, range->hpa, 1));
        }
        REQUIRE(table.translate(d, dt::kControlBase, hpa) == Reach::kNone);
    }
    REQUIRE((table.cores(0) & 1) == 1);
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size)
{
    FuzzHost host;
    DomainTable table(kMachine, host);
    Input in(data, size);
    while (!in.empty()) {
        const auto operation = in.take<std::uint8_t>();
        const Cycle cycle{static_cast<std::uint8_t>(operation >> 4), true};
        const std::uint32_t domain = operation >> 4;
        switch (operation & 15) {
        case 0:
        case 1: {
            const auto window = (operation & 1) != 0 ? WindowKind::kControl : WindowKind::kOwn;
            const auto offset = in.take<std::uint16_t>();
            const unsigned width = 1U << (in.take<std::uint8_t>() & 3);
            (void)table.mmio_read(cycle, window, offset, width);
            break;
        }
        case 2:
        case 3: {
            const auto window = (operation & 1) != 0 ? WindowKind::kControl : WindowKind::kOwn;
            const auto offset = in.take<std::uint16_t>();
            const unsigned width = 1U << (in.take<std::uint8_t>() & 3);
            table.mmio_write(cycle, window, offset, width, in.take<std::uint64_t>());
            break;
        }
        case 4: // a host that creates and seals
            if (domain >= 1 && domain <= 5) {
                const dt::Descriptor d = good(domain);
                const auto write = [&](std::uint32_t reg, unsigned width, std::uint64_t value) {
                    table.mmio_write({1, true}, WindowKind::kControl, reg, width, value);
                };
                write(dt::control::kSelect, 4, domain);
                write(dt::control::kCommand, 4, static_cast<std::uint32_t>(dt::Command::kCreate));
                for (std::uint32_t at = 0; at < sizeof(d); at += 8) {
                    std::uint64_t word = 0;
                    std::memcpy(&word, reinterpret_cast<const char *>(&d) + at, 8);
                    write(dt::control::kDescriptor + at, 8, word);
                }
                write(dt::control::kCommand, 4, static_cast<std::uint32_t>(dt::Command::kSeal));
            }
            break;
        case 5: // and one that commands
            table.mmio_write({1, true}, WindowKind::kControl, dt::control::kSelect, 4, domain);
            table.mmio_write({1, true}, WindowKind::kControl, dt::control::kCommand, 4, in.take<std::uint8_t>() & 7);
            break;
        case 6:
            (void)table.join(in.take<std::uint8_t>(), domain);
            break;
        case 7: {
            const std::uint32_t core = in.take<std::uint8_t>();
            const auto begin = table.enter(core, domain);
            if (begin) {
                REQUIRE((table.cores(domain) >> core & 1) == 1 && (table.cores(0) >> core & 1) == 0);
            }
            break;
        }
        case 8:
            table.exit(in.take<std::uint8_t>(), domain, static_cast<ExitCause>(in.take<std::uint8_t>() & 3));
            break;
        case 9:
            table.launched(domain, {}, {});
            break;
        case 10:
            host.instance = static_cast<Instance>(in.take<std::uint8_t>() % 3);
            host.signature = static_cast<Signature>(domain % 3);
            host.yes = (domain & 1) == 0;
            break;
        case 11:
            table.reset();
            break;
        case 12: {
            std::uint64_t hpa = 0;
            (void)table.translate(domain, in.take<std::uint64_t>(), hpa);
            (void)table.ram(domain, in.take<std::uint64_t>(), in.take<std::uint32_t>());
            break;
        }
        case 13: {
            std::uint32_t value = 0;
            const auto port = in.take<std::uint16_t>();
            (void)table.port(domain, port, in.take<std::uint8_t>(), (port & 1) != 0, value);
            break;
        }
        case 14: {
            const auto msr = in.take<std::uint32_t>();
            const access::MsrAnswer answer = table.msr(domain, msr, (msr & 1) != 0);
            REQUIRE(domain == 0 || answer.action != dt::MsrAction::kPass || answer.write_mask == 0 ||
                    !access::msr_forbidden(msr));
            break;
        }
        default:
            (void)table.of_root_port(in.take<std::uint8_t>());
            break;
        }
        check(table);
    }
    const std::string json = table.json(0);
    REQUIRE(json.front() == '{' && json.back() == '}');
    return 0;
}
