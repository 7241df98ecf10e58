// SPDX-License-Identifier: GPL-2.0-or-later
#include "cpu-ext/domain/domain_table.hpp"

#include <algorithm>

#include "cpu-ext/domain/descriptor_check.hpp"

// Life of the domains: commands, cores, launches, reports. Registers are in domain_mmio.cpp, look-ups in domain_reach.cpp.

namespace banyan::domain {

namespace {

constexpr std::uint32_t kReceiptSlot = 16; // domains_host_ops: slot = domain, or 16 + domain

constexpr std::uint64_t bit(std::uint32_t core)
{
    return std::uint64_t{1} << core;
}

} // namespace

// ---- the state machine and its actions ---------------------------------------------------------------------------

Action DomainTable::take(std::uint32_t number, Event event)
{
    const Step next = step(domains_[number].phase, event);
    domains_[number].phase = next.next;
    perform(number, next.action);
    return next.action;
}

void DomainTable::perform(std::uint32_t number, Action action)
{
    Domain &domain = domains_[number];

    switch (action) {
    case Action::kRefuse:
    case Action::kNone:
        return;

    case Action::kWait: // not closed yet, but the binding can be seen
        shared_[number].published.publish(domain.descriptor, domain.phase);
        return;

    case Action::kClear:
        domain.descriptor = {};
        domain.digest = {};
        domain.reason = dt::EndReason::kNone;
        domain.broken = Rule::kNone;
        domain.receipt_nonce_size = 0;
        drop_reports(number);
        return;

    case Action::kOpen:
        open(number);
        return;

    case Action::kRelease:
        power_off_instances(number);
        unbind_instances(number, false);
        shared_[number].published.publish({}, domain.phase);
        if (domain.phase == Phase::kEmpty) {
            domain.descriptor = {};
        }
        return;

    case Action::kBegin:
        shared_[number].published.set_phase(domain.phase);
        return;

    case Action::kStopCores:
        shared_[number].published.set_phase(domain.phase);
        host_.stop_cores(number, shared_[number].inside.load(std::memory_order_relaxed));
        power_off(number);
        return;

    case Action::kAbandon:
        power_off(number);
        close(number);
        return;

    case Action::kClose:
        close(number);
        return;

    case Action::kForgetErase:
        unbind_instances(number, true);
        domain.descriptor = {};
        return;

    case Action::kForget: // a draft is not checked: scrubbing what it names could hit anyone's RAM
        domain.descriptor = {};
        return;

    case Action::kScrub:
        scrub(number, false);
        return;

    case Action::kScrubErase:
        scrub(number, true);
        return;

    case Action::kSign:
        start_report(number, Kind::kReceipt, domain.receipt_nonce_size);
        return;
    }
}

/// SEALED: a new life begins.
void DomainTable::open(std::uint32_t number)
{
    Domain &domain = domains_[number];
    Shared &shared = shared_[number];

    ++domain.start_count;
    domain.launch_count = 0;
    domain.entered = 0;
    domain.gate = false;
    domain.reason = dt::EndReason::kNone;
    domain.slb = {};
    domain.times = {};
    domain.exits = {};
    domain.stray_exits = 0;
    std::copy(std::begin(domain.descriptor.name), std::end(domain.descriptor.name), domain.name.begin());
    for (auto &count : shared.denied) {
        count.store(0, std::memory_order_relaxed);
    }
    take(number, Kind::kReport, ReportEvent::kDrop); // a receipt's nonce may be there already

    shared.published.publish(domain.descriptor, domain.phase);
    closed_.fetch_or(1U << number, std::memory_order_release);
    host_.reach_changed(number);
}

void DomainTable::power_off(std::uint32_t number)
{
    domains_[number].gate = false;
    host_.launch_cancel(number);
    power_off_instances(number);
}

// ---- vTPM instances ----------------------------------------------------------------------------------------------

/// All or none. Those that came up before one that does not are off and unbound again.
bool DomainTable::power_on_instances(std::uint32_t number)
{
    const dt::Descriptor &d = domains_[number].descriptor;
    for (std::uint32_t window = 0; window < dt::kVtpmWindows; ++window) {
        const std::uint32_t instance = dt::vtpm_behind(d, window);
        if (instance == 0 || host_.instance_on(number, window, instance)) {
            continue;
        }
        while (window-- > 0) {
            host_.instance_off(number, dt::vtpm_behind(d, window));
            host_.instance_unbind(number, dt::vtpm_behind(d, window), false);
        }
        return false;
    }
    return true;
}

void DomainTable::power_off_instances(std::uint32_t number)
{
    for (std::uint32_t window = 0; window < dt::kVtpmWindows; ++window) {
        if (const std::uint32_t instance = dt::vtpm_behind(domains_[number].descriptor, window); instance != 0) {
            host_.instance_off(number, instance);
        }
    }
}

void DomainTable::unbind_instances(std::uint32_t number, bool erase)
{
    for (std::uint32_t window = 0; window < dt::kVtpmWindows; ++window) {
        if (const std::uint32_t instance = dt::vtpm_behind(domains_[number].descriptor, window); instance != 0) {
            host_.instance_unbind(number, instance, erase);
        }
    }
}

/// Failed as soon as one is, ready when all are.
Instance DomainTable::instances_state(std::uint32_t number)
{
    Instance all = Instance::kReady;
    for (std::uint32_t window = 0; window < dt::kVtpmWindows; ++window) {
        const std::uint32_t instance = dt::vtpm_behind(domains_[number].descriptor, window);
        const Instance one = instance == 0 ? Instance::kReady : host_.instance_state(instance);
        if (one == Instance::kFailed) {
            return one;
        }
        all = one == Instance::kBusy ? one : all;
    }
    return all;
}

/// DIRTY: no core is inside; the tags that cores carry end with the life they were given for.
void DomainTable::close(std::uint32_t number)
{
    host_.launch_cancel(number); // one that a core began between the stop and its own end
    shared_[number].inside.store(0, std::memory_order_relaxed);
    shared_[number].published.set_phase(domains_[number].phase);
    std::replace(joined_.begin(), joined_.end(), static_cast<std::uint8_t>(number), std::uint8_t{0});
    host_.reach_changed(number);
}

/// EMPTY: the host gets nothing back before it is clean.
void DomainTable::scrub(std::uint32_t number, bool erase)
{
    Domain &domain = domains_[number];
    for (std::uint32_t i = 0; i < domain.descriptor.range_count; ++i) {
        host_.scrub(domain.descriptor.ranges[i].hpa, domain.descriptor.ranges[i].size);
    }
    unbind_instances(number, erase);
    if (host_.window_closed(number)) { // by a launch whose loader did not get to lift it
        host_.window_lifted(number);
    }
    domain.descriptor = {};
    domain.digest = {};
    drop_reports(number);
    shared_[number].published.publish(domain.descriptor, domain.phase);
    closed_.fetch_and(~(1U << number), std::memory_order_release);
    host_.reach_changed(number);
}

void DomainTable::end(std::uint32_t number, Event event, dt::EndReason reason)
{
    const Action action = step(domains_[number].phase, event).action;
    if (action == Action::kStopCores || action == Action::kAbandon) { // the first reason stays
        domains_[number].reason = reason;
    }
    take(number, event);
}

void DomainTable::reset()
{
    for (std::uint32_t number = 1; number <= dt::kMaxDomains; ++number) {
        shared_[number].inside.store(0, std::memory_order_relaxed); // the reset has torn every core out
        end(number, Event::kReset, dt::EndReason::kReset);
        domains_[number].status = dt::Status::kOk;
        drop_reports(number);
    }
    drop_reports(0);
    domains_[0].launch_count = 0;
    domains_[0].slb = {};
    domains_[0].times = {};
    hypervisor_ = {}; // who runs now was not launched
    joined_ = {};
    select_ = 0;
}

// ---- commands ----------------------------------------------------------------------------------------------------

void DomainTable::command(std::uint32_t number, std::uint32_t code)
{
    Domain &domain = domains_[number];
    poll_seal(number);
    if (domain.phase == Phase::kSealing) {
        return; // refused; the status stays kBusy, it is the seal's
    }
    const auto status_of = [](Action action) {
        return action == Action::kRefuse ? dt::Status::kBadState : dt::Status::kOk;
    };

    switch (static_cast<dt::Command>(code)) {
    case dt::Command::kCreate:
        domain.status = status_of(take(number, Event::kCreate));
        return;
    case dt::Command::kSeal:
        seal(number);
        return;
    case dt::Command::kStop:
        domain.status = status_of(step(domain.phase, Event::kStop).action);
        end(number, Event::kStop, dt::EndReason::kStopped);
        return;
    case dt::Command::kDelete:
        domain.status = status_of(take(number, Event::kDelete));
        return;
    case dt::Command::kErase:
        if (domain.phase == Phase::kBuilding && instance_is_others(number)) {
            domain.status = dt::Status::kNoInstance; // a draft may name anyone's
            return;
        }
        domain.status = status_of(take(number, Event::kErase));
        return;
    case dt::Command::kReceipt:
        domain.status = status_of(take(number, Event::kReceipt));
        return;
    }
    domain.status = dt::Status::kBadState;
}

void DomainTable::seal(std::uint32_t number)
{
    Domain &domain = domains_[number];
    if (step(domain.phase, Event::kSeal).action == Action::kRefuse) {
        domain.status = dt::Status::kBadState;
        return;
    }
    domain.broken = first_broken_rule(number);
    if (domain.broken == Rule::kNone) {
        domain.digest = host_.sha384(std::as_bytes(std::span(&domain.descriptor, 1)));
        if (!power_on_instances(number)) {
            domain.broken = Rule::kInstance;
        }
    }
    if (domain.broken != Rule::kNone) {
        domain.status = fact_of(domain.broken).status;
        return;
    }
    domain.status = dt::Status::kBusy;
    take(number, Event::kSeal);
    poll_seal(number);
}

void DomainTable::poll_seal(std::uint32_t number)
{
    Domain &domain = domains_[number];
    if (domain.phase != Phase::kSealing) {
        return;
    }
    switch (instances_state(number)) {
    case Instance::kBusy:
        return;
    case Instance::kReady:
        take(number, Event::kInstanceReady);
        domain.status = dt::Status::kOk;
        return;
    case Instance::kFailed:
        take(number, Event::kInstanceFailed);
        domain.broken = Rule::kInstance;
        domain.status = fact_of(domain.broken).status;
        return;
    }
}

Rule DomainTable::first_broken_rule(std::uint32_t number) const
{
    const dt::Descriptor &mine = domains_[number].descriptor;
    Rule first = check_descriptor(mine, platform_);
    if (first != Rule::kNone) {
        return first;
    }
    for (std::uint32_t other = 1; other <= dt::kMaxDomains; ++other) {
        if (other == number || domains_[other].phase == Phase::kEmpty) {
            continue;
        }
        const Rule broken = check_against(mine, domains_[other].descriptor, platform_);
        if (broken != Rule::kNone && (first == Rule::kNone || broken < first)) {
            first = broken;
        }
    }
    return first;
}

bool DomainTable::instance_is_others(std::uint32_t number) const
{
    const dt::Descriptor &mine = domains_[number].descriptor;
    if (mine.vtpm_instance == 0) {
        return true; // the host's
    }
    for (std::uint32_t other = 1; other <= dt::kMaxDomains; ++other) {
        const Phase phase = domains_[other].phase;
        if (other != number && (closed(phase) || phase == Phase::kSealing) &&
            share_instance(mine, domains_[other].descriptor)) {
            return true;
        }
    }
    return false;
}

// ---- cores -------------------------------------------------------------------------------------------------------

Status DomainTable::join(std::uint32_t core, std::uint32_t domain)
{
    if (core >= platform_.cores || domain > dt::kMaxDomains) {
        return fail(Errc::kBadArgument);
    }
    for (std::uint32_t d = 1; d <= dt::kMaxDomains; ++d) {
        if ((shared_[d].inside.load(std::memory_order_relaxed) & bit(core)) != 0) {
            return fail(Errc::kBadState); // host code does not run there
        }
    }
    if (domain != 0) {
        poll_seal(domain);
        if (step(domains_[domain].phase, Event::kEnter).action == Action::kRefuse) {
            return fail(Errc::kBadState);
        }
        if ((domains_[domain].descriptor.core_mask & bit(core)) == 0) {
            return fail(Errc::kNotFound);
        }
    }
    joined_[core] = static_cast<std::uint8_t>(domain);
    return {};
}

Result<Begin> DomainTable::enter(std::uint32_t core, std::uint32_t domain)
{
    if (core >= platform_.cores || !is_domain(domain)) {
        return fail(Errc::kBadArgument);
    }
    Domain &entered = domains_[domain];
    if (joined_[core] != domain || (entered.entered & bit(core)) != 0 ||
        step(entered.phase, Event::kEnter).action == Action::kRefuse) {
        return fail(Errc::kBadState);
    }
    entered.entered |= bit(core);
    shared_[domain].inside.fetch_or(bit(core), std::memory_order_relaxed);
    take(domain, Event::kEnter);
    return Begin{entered.descriptor.entry, core != entered.descriptor.boot_core};
}

void DomainTable::exit(std::uint32_t core, std::uint32_t domain, ExitCause cause)
{
    if (core >= platform_.cores || !is_domain(domain)) {
        return;
    }
    Domain &left = domains_[domain];
    std::atomic<std::uint64_t> &inside = shared_[domain].inside;
    if ((inside.load(std::memory_order_relaxed) & bit(core)) == 0) {
        ++left.stray_exits;
        return;
    }
    ++left.exits[static_cast<std::size_t>(cause)];
    inside.fetch_and(~bit(core), std::memory_order_relaxed);

    dt::EndReason reason = dt::EndReason::kStopped;
    switch (cause) {
    case ExitCause::kStopLine:
        break;
    case ExitCause::kShutdown:
    case ExitCause::kOther: // no such exit is left to a guest; if one happens it is the end as well
        reason = dt::EndReason::kShutdown;
        break;
    case ExitCause::kSibling:
        reason = dt::EndReason::kSibling;
        break;
    }
    end(domain, Event::kEnd, reason);
    if (inside.load(std::memory_order_relaxed) == 0) {
        take(domain, Event::kLastExit);
    }
}

void DomainTable::launched(std::uint32_t domain, const Digest &slb, const LaunchTimes &times)
{
    if (domain > dt::kMaxDomains || (domain != 0 && domains_[domain].phase != Phase::kRunning)) {
        return;
    }
    Domain &launched = domains_[domain];
    ++launched.launch_count;
    launched.slb = slb;
    launched.times = times;
    if (domain == 0) {
        hypervisor_ = slb;
    }
}

// ---- reports and receipts ----------------------------------------------------------------------------------------

DomainTable::Report &DomainTable::report_of(std::uint32_t number, Kind kind)
{
    return kind == Kind::kReport ? domains_[number].report : domains_[number].receipt;
}

bool DomainTable::sign(std::uint32_t number, Kind kind)
{
    const Domain &domain = domains_[number];
    const Report &report = report_of(number, kind);
    const bool sealed = number != 0;
    const ReportFacts facts{
        .receipt = kind == Kind::kReceipt,
        .domain = number,
        .instance = sealed ? domain.descriptor.vtpm_instance : 0,
        .flags = sealed ? domain.descriptor.flags : 0,
        .insecure = insecure_,
        .start_count = domain.start_count,
        .launch_count = domain.launch_count,
        .digest = domain.digest,
        .hypervisor = hypervisor_,
        .nonce_size = report.nonce_size,
        .nonce = report.nonce,
        .name = sealed ? domain.name : decltype(domain.name){},
    };
    return host_.sign(kind == Kind::kReceipt ? kReceiptSlot + number : number, facts);
}

void DomainTable::take(std::uint32_t number, Kind kind, ReportEvent event)
{
    Report &report = report_of(number, kind);
    const ReportStep next = step(report.status, event);
    const bool was_busy = report.status == dt::ReportStatus::kBusy;
    report.status = next.next;

    switch (next.action) {
    case ReportAction::kIgnore:
    case ReportAction::kPublish: // poll_report() has filled it
        return;
    case ReportAction::kClear:
        report.size = 0;
        report.data = {};
        if (event == ReportEvent::kDrop) {
            report.stale = report.stale || was_busy;
            report.nonce = {};
        }
        return;
    case ReportAction::kSign:
        report.size = 0;
        report.data = {};
        if (report.stale) {
            poll_report(number, kind); // signs as soon as the slot is free
        } else if (!sign(number, kind)) {
            take(number, kind, ReportEvent::kFailed);
        }
        return;
    }
}

void DomainTable::start_report(std::uint32_t number, Kind kind, std::uint64_t nonce_size)
{
    Report &report = report_of(number, kind);
    const bool good = nonce_size >= 1 && nonce_size <= dt::own::kNonceMax;
    if (good && report.status != dt::ReportStatus::kBusy) {
        report.nonce_size = static_cast<std::uint32_t>(nonce_size);
    }
    take(number, kind, good ? ReportEvent::kStart : ReportEvent::kRefused);
}

void DomainTable::poll_report(std::uint32_t number, Kind kind)
{
    Report &report = report_of(number, kind);
    if (report.status != dt::ReportStatus::kBusy) {
        return;
    }
    std::uint32_t size = 0;
    const Signature answer =
        host_.sign_poll(kind == Kind::kReceipt ? kReceiptSlot + number : number, report.data, size);
    if (answer == Signature::kBusy) {
        return;
    }
    if (report.stale) { // the answer belongs to an earlier life
        report.stale = false;
        report.data = {};
        if (!sign(number, kind)) {
            take(number, kind, ReportEvent::kFailed);
        }
        return;
    }
    if (answer == Signature::kFailed || size > report.data.size()) {
        take(number, kind, ReportEvent::kFailed);
        return;
    }
    report.size = size;
    take(number, kind, ReportEvent::kSigned);
}

void DomainTable::drop_reports(std::uint32_t number)
{
    take(number, Kind::kReport, ReportEvent::kDrop);
    take(number, Kind::kReceipt, ReportEvent::kDrop);
}

} // namespace banyan::domain
