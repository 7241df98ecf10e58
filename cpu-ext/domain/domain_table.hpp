// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <optional>
#include <string>

#include "banyan/arch/domain_table.hpp"
#include "banyan/base/result.hpp"
#include "cpu-ext/access/access.hpp"
#include "cpu-ext/domain/descriptor_rules.hpp"
#include "cpu-ext/domain/domain_state.hpp"
#include "cpu-ext/domain/platform.hpp"
#include "cpu-ext/domain/published.hpp"
#include "cpu-ext/domain/report_state.hpp"

namespace banyan::domain {

/// One bus access as the hardware tags it.
struct Cycle {
    std::uint8_t requester; // domain + 1, 0: nobody
    bool from_core;
};

enum class WindowKind : std::uint8_t { kOwn, kControl };
enum class Denied : std::uint8_t { kPort, kMmio, kInterrupt, kMsr, kDma };
enum class ExitCause : std::uint8_t { kStopLine, kShutdown, kSibling, kOther };
enum class Reach : std::uint8_t { kNone, kRam, kMmio };

inline constexpr std::size_t kDeniedKinds = 5;
inline constexpr std::size_t kExitCauses = 4;
inline constexpr std::array kAllDenied{Denied::kPort, Denied::kMmio, Denied::kInterrupt, Denied::kMsr, Denied::kDma};

/// Where a core begins.
struct Begin {
    dt::Entry entry;
    bool wait_for_sipi;
};

/// The domain table: registers, cores, reach and filters of all domains.
///
/// Threads: const look-ups, port(), msr() and deny() from any thread; all else under the big lock.
/// Invariants: a domain is RUNNING or STOPPING exactly while at least one core is inside; what is published is a checked
/// descriptor; two closed domains share nothing.
class DomainTable {
public:
    DomainTable(const Platform &platform, Host &host) : platform_(platform), host_(host), insecure_(platform.insecure)
    {}
    DomainTable(const DomainTable &) = delete;
    DomainTable &operator=(const DomainTable &) = delete;
    ~DomainTable() = default;

    void reset();
    void add_insecure(std::uint32_t bits) { insecure_ |= bits; }

    [[nodiscard]] std::uint64_t mmio_read(Cycle cycle, WindowKind window, std::uint64_t offset, unsigned width);
    void mmio_write(Cycle cycle, WindowKind window, std::uint64_t offset, unsigned width, std::uint64_t value);

    Status join(std::uint32_t core, std::uint32_t domain);
    Result<Begin> enter(std::uint32_t core, std::uint32_t domain);
    void exit(std::uint32_t core, std::uint32_t domain, ExitCause cause);
    void launched(std::uint32_t domain, const Digest &slb, const LaunchTimes &times);

    [[nodiscard]] Reach translate(std::uint32_t domain, std::uint64_t gpa, std::uint64_t &hpa) const;
    [[nodiscard]] std::optional<std::uint64_t> ram(std::uint32_t domain, std::uint64_t gpa, std::uint64_t size) const;
    [[nodiscard]] std::optional<dt::Range> range(std::uint32_t domain, std::uint32_t index) const;
    [[nodiscard]] bool is_closed(std::uint32_t domain) const;
    [[nodiscard]] std::uint32_t of_root_port(std::uint8_t devfn) const;
    [[nodiscard]] std::uint64_t cores(std::uint32_t domain) const;
    [[nodiscard]] std::uint32_t instance(std::uint32_t domain) const;

    /// true: forward to the bus.
    [[nodiscard]] bool port(std::uint32_t domain, std::uint16_t port, unsigned width, bool write, std::uint32_t &value);
    [[nodiscard]] access::MsrAnswer msr(std::uint32_t domain, std::uint32_t msr, bool write);
    void deny(std::uint32_t domain, Denied what);

    /// now_ns: virtual time.
    [[nodiscard]] std::string json(std::int64_t now_ns) const;

private:
    struct Report {
        dt::ReportStatus status = dt::ReportStatus::kIdle;
        std::uint32_t size = 0;
        std::array<std::uint8_t, dt::own::kNonceMax> nonce{};
        std::array<std::uint8_t, dt::own::kReportMax> data{};
        bool stale = false;           // the slot still works for an earlier life: its statement must not be published
        std::uint32_t nonce_size = 0; // of the request that waits for the slot
    };

    struct Domain {
        Phase phase = Phase::kEmpty;
        dt::Descriptor descriptor{};
        dt::Status status = dt::Status::kOk;
        Rule broken = Rule::kNone;                             // by the last SEAL
        std::array<char, sizeof(dt::Descriptor::name)> name{}; // of the last life that was sealed
        dt::EndReason reason = dt::EndReason::kNone;
        bool gate = false;
        std::uint64_t start_count = 0;
        std::uint64_t launch_count = 0;
        std::uint64_t entered = 0; // cores that began in this life
        Digest digest{};
        Digest slb{}; // of the last launch
        LaunchTimes times{};
        Report report;
        Report receipt;
        std::uint32_t receipt_nonce_size = 0;
        std::array<std::uint64_t, kExitCauses> exits{};
        std::uint64_t stray_exits = 0; // of cores that were not inside: none in a correct machine
    };

    struct Shared { // what any thread reads
        Published published;
        std::atomic<std::uint64_t> inside{0}; // cores between VMRUN and #VMEXIT
        std::array<std::atomic<std::uint64_t>, kDeniedKinds> denied{};
    };

    [[nodiscard]] static bool is_domain(std::uint32_t domain) { return domain >= 1 && domain <= dt::kMaxDomains; }
    [[nodiscard]] bool closed_domain_has(std::uint64_t hpa, std::uint64_t size) const;
    [[nodiscard]] std::uint64_t machine_cores() const;

    // State changes. take() is one step of the machine, perform() its action.
    Action take(std::uint32_t number, Event event);
    void perform(std::uint32_t number, Action action);
    void end(std::uint32_t number, Event event, dt::EndReason reason);
    void open(std::uint32_t number);
    void power_off(std::uint32_t number);
    void close(std::uint32_t number);
    void scrub(std::uint32_t number, bool erase);

    void command(std::uint32_t number, std::uint32_t code);
    void seal(std::uint32_t number);
    void poll_seal(std::uint32_t number);
    void drop_reports(std::uint32_t number);

    // The vTPM instances that the descriptor names.
    bool power_on_instances(std::uint32_t number);
    void power_off_instances(std::uint32_t number);
    void unbind_instances(std::uint32_t number, bool erase);
    [[nodiscard]] Instance instances_state(std::uint32_t number);

    [[nodiscard]] Rule first_broken_rule(std::uint32_t number) const;
    [[nodiscard]] bool instance_is_others(std::uint32_t number) const;

    // Reports.
    enum class Kind : std::uint8_t { kReport, kReceipt };
    [[nodiscard]] Report &report_of(std::uint32_t number, Kind kind);
    bool sign(std::uint32_t number, Kind kind);
    void take(std::uint32_t number, Kind kind, ReportEvent event);
    void start_report(std::uint32_t number, Kind kind, std::uint64_t nonce_size);
    void poll_report(std::uint32_t number, Kind kind);

    // Registers.
    [[nodiscard]] bool admitted(Cycle cycle, WindowKind window) const;
    void refuse(Cycle cycle);
    [[nodiscard]] std::uint64_t own_value(std::uint32_t number, std::uint32_t reg);
    [[nodiscard]] std::uint64_t control_value(std::uint32_t reg);
    [[nodiscard]] const std::uint8_t *own_bytes(std::uint32_t number, std::uint32_t reg);
    [[nodiscard]] const std::uint8_t *control_bytes(std::uint32_t reg);
    /// Where a write to a buffer goes, or nullptr: not now.
    [[nodiscard]] std::uint8_t *own_target(std::uint32_t number, std::uint32_t reg);
    [[nodiscard]] std::uint8_t *control_target(std::uint32_t reg);
    /// false: refused.
    bool own_write(std::uint32_t number, std::uint32_t reg, std::uint64_t value);
    bool control_write(std::uint32_t reg, std::uint64_t value);
    [[nodiscard]] bool selected() const { return is_domain(select_); }

    const Platform platform_;
    Host &host_;
    std::uint32_t insecure_;                            // platform_'s and what was added later
    std::array<Domain, dt::kMaxDomains + 1> domains_{}; // [0] is the host: only counters, report and launch
    std::array<std::uint8_t, dt::kMaxCores> joined_{};  // domain that the core's next VMRUN enters, 0: none
    std::uint32_t select_ = 0;
    Digest hypervisor_{};
    std::uint64_t unmarked_ = 0; // accesses that named nobody, or were no core's

    std::array<Shared, dt::kMaxDomains + 1> shared_{};
    std::atomic<std::uint32_t> closed_{0}; // bit d: domain d is closed to the host
};

} // namespace banyan::domain
