// SPDX-License-Identifier: GPL-2.0-or-later
#include "banyan/capi/domains.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>

#include "cpu-ext/domain/domain_table.hpp"

namespace {

using namespace banyan::domain;
using banyan::Errc;

constexpr banyan_status to_c(Errc why)
{
    return -static_cast<banyan_status>(why);
}

class CHost final : public Host {
public:
    CHost(const banyan_domains_host_ops &ops, void *opaque) : ops_(ops), opaque_(opaque) {}

    bool instance_on(std::uint32_t domain, std::uint32_t window, std::uint32_t instance) override
    {
        return ops_.instance_on(opaque_, domain, window, instance) >= 0;
    }
    void instance_off(std::uint32_t domain, std::uint32_t instance) override
    {
        ops_.instance_off(opaque_, domain, instance);
    }
    void instance_unbind(std::uint32_t domain, std::uint32_t instance, bool erase) override
    {
        ops_.instance_unbind(opaque_, domain, instance, erase ? 1 : 0);
    }
    Instance instance_state(std::uint32_t instance) override
    {
        switch (ops_.instance_state(opaque_, instance)) {
        case BANYAN_INSTANCE_BUSY:
            return Instance::kBusy;
        case BANYAN_INSTANCE_READY:
            return Instance::kReady;
        case BANYAN_INSTANCE_FAILED:
            break;
        }
        return Instance::kFailed;
    }
    void stop_cores(std::uint32_t domain, std::uint64_t core_mask) override
    {
        ops_.stop_cores(opaque_, domain, core_mask);
    }
    void launch_cancel(std::uint32_t domain) override { ops_.launch_cancel(opaque_, domain); }
    void reach_changed(std::uint32_t domain) override { ops_.reach_changed(opaque_, domain); }
    void window_lifted(std::uint32_t domain) override { ops_.window_lifted(opaque_, domain); }
    bool window_closed(std::uint32_t domain) override { return ops_.window_closed(opaque_, domain) != 0; }
    void scrub(std::uint64_t hpa, std::uint64_t size) override { ops_.scrub(opaque_, hpa, size); }
    Digest sha384(std::span<const std::byte> data) override
    {
        Digest digest;
        ops_.sha384(opaque_, data.data(), data.size(), digest.data());
        return digest;
    }
    std::uint64_t wall_time() override { return ops_.wall_time(opaque_); }

    bool sign(std::uint32_t slot, const ReportFacts &facts) override
    {
        banyan_report_facts c{};
        c.size = sizeof(c);
        c.kind = facts.receipt ? BANYAN_REPORT_RECEIPT : BANYAN_REPORT_DOMAIN;
        c.domain = facts.domain;
        c.instance = facts.instance;
        c.flags = facts.flags;
        c.insecure = facts.insecure;
        if ((facts.flags & banyan::dt::flag::kDebug) != 0) {
            c.insecure |= BANYAN_INSECURE_DEBUG;
        }
        c.start_count = facts.start_count;
        c.launch_count = facts.launch_count;
        std::copy(facts.digest.begin(), facts.digest.end(), c.digest);
        std::copy(facts.hypervisor.begin(), facts.hypervisor.end(), c.hypervisor);
        c.nonce_size = facts.nonce_size;
        std::copy_n(facts.nonce.begin(), facts.nonce_size, c.nonce);
        std::copy(facts.name.begin(), facts.name.end(), c.name);
        return ops_.sign(opaque_, slot, &c) >= 0;
    }

    Signature sign_poll(std::uint32_t slot, std::span<std::uint8_t, banyan::dt::own::kReportMax> out,
                        std::uint32_t &size) override
    {
        size = static_cast<std::uint32_t>(out.size());
        const banyan_status rc = ops_.sign_poll(opaque_, slot, out.data(), &size);
        if (rc == BANYAN_BUSY) {
            return Signature::kBusy;
        }
        return rc == BANYAN_OK ? Signature::kReady : Signature::kFailed;
    }

private:
    const banyan_domains_host_ops ops_;
    void *const opaque_;
};

bool complete(const banyan_domains_host_ops &ops)
{
    return ops.instance_on != nullptr && ops.instance_off != nullptr && ops.instance_unbind != nullptr &&
           ops.instance_state != nullptr && ops.stop_cores != nullptr && ops.launch_cancel != nullptr &&
           ops.reach_changed != nullptr && ops.window_lifted != nullptr && ops.window_closed != nullptr &&
           ops.scrub != nullptr && ops.sha384 != nullptr && ops.wall_time != nullptr && ops.sign != nullptr &&
           ops.sign_poll != nullptr;
}

bool sane(const banyan_platform &platform)
{
    const auto fits = [](std::uint64_t base, std::uint64_t size) { return base + size >= base; };
    return platform.cores >= 1 && platform.cores <= banyan::dt::kMaxCores && platform.ram_below_4g <= k4Gib &&
           fits(k4Gib, platform.ram_above_4g) && fits(platform.ecam_base, platform.ecam_size) &&
           fits(platform.pci_base, platform.pci_size);
}

bool usable(const banyan_cycle *cycle)
{
    return cycle != nullptr && cycle->size >= sizeof(*cycle);
}

bool good_window(banyan_domains_window window)
{
    return window == BANYAN_WINDOW_OWN || window == BANYAN_WINDOW_CONTROL;
}

Cycle cycle_of(const banyan_cycle &cycle)
{
    return {cycle.requester, cycle.from_core != 0};
}

WindowKind window_of(banyan_domains_window window)
{
    return window == BANYAN_WINDOW_OWN ? WindowKind::kOwn : WindowKind::kControl;
}

} // namespace

struct banyan_domains {
    CHost host;
    DomainTable table;

    banyan_domains(const Platform &platform, const banyan_domains_host_ops &ops, void *opaque)
        : host(ops, opaque),
          table(platform, host)
    {}
};

banyan_status banyan_domains_create(const banyan_platform *platform, const banyan_domains_host_ops *ops, void *opaque,
                                    banyan_domains **out)
{
    if (platform == nullptr || ops == nullptr || out == nullptr || platform->size < sizeof(*platform) ||
        ops->size < sizeof(*ops) || !complete(*ops) || !sane(*platform)) {
        return to_c(Errc::kBadArgument);
    }
    const Platform machine{platform->cores,     platform->ram_below_4g, platform->ram_above_4g, platform->ecam_base,
                           platform->ecam_size, platform->pci_base,     platform->pci_size,     platform->insecure};
    *out = new (std::nothrow) banyan_domains(machine, *ops, opaque);
    return *out == nullptr ? to_c(Errc::kNoSpace) : BANYAN_OK;
}

void banyan_domains_destroy(banyan_domains *domains)
{
    delete domains;
}

void banyan_domains_reset(banyan_domains *domains)
{
    domains->table.reset();
}

banyan_status banyan_domains_mmio_read(banyan_domains *domains, const banyan_cycle *cycle, banyan_domains_window window,
                                       std::uint64_t offset, unsigned width, std::uint64_t *value)
{
    if (domains == nullptr || !usable(cycle) || !good_window(window) || value == nullptr) {
        return to_c(Errc::kBadArgument);
    }
    *value = domains->table.mmio_read(cycle_of(*cycle), window_of(window), offset, width);
    return BANYAN_OK;
}

banyan_status banyan_domains_mmio_write(banyan_domains *domains, const banyan_cycle *cycle,
                                        banyan_domains_window window, std::uint64_t offset, unsigned width,
                                        std::uint64_t value)
{
    if (domains == nullptr || !usable(cycle) || !good_window(window)) {
        return to_c(Errc::kBadArgument);
    }
    domains->table.mmio_write(cycle_of(*cycle), window_of(window), offset, width, value);
    return BANYAN_OK;
}

banyan_status banyan_domains_join(banyan_domains *domains, std::uint32_t core, std::uint32_t domain)
{
    const banyan::Status joined = domains->table.join(core, domain);
    return joined ? BANYAN_OK : to_c(joined.error());
}

banyan_status banyan_domains_enter(banyan_domains *domains, std::uint32_t core, std::uint32_t domain,
                                   banyan_entry *entry)
{
    if (entry == nullptr || entry->size < sizeof(*entry)) {
        return to_c(Errc::kBadArgument);
    }
    const auto begin = domains->table.enter(core, domain);
    if (!begin) {
        return to_c(begin.error());
    }
    *entry = {entry->size,      begin->entry.eip, begin->entry.eax,
              begin->entry.ebx, begin->entry.esi, begin->wait_for_sipi ? 1U : 0U};
    return BANYAN_OK;
}

void banyan_domains_exit(banyan_domains *domains, std::uint32_t core, std::uint32_t domain, banyan_exit_cause cause)
{
    ExitCause why = ExitCause::kOther;
    switch (cause) {
    case BANYAN_EXIT_STOP_LINE:
        why = ExitCause::kStopLine;
        break;
    case BANYAN_EXIT_SHUTDOWN:
        why = ExitCause::kShutdown;
        break;
    case BANYAN_EXIT_SIBLING:
        why = ExitCause::kSibling;
        break;
    case BANYAN_EXIT_OTHER:
        break;
    }
    domains->table.exit(core, domain, why);
}

void banyan_domains_launched(banyan_domains *domains, std::uint32_t domain,
                             const std::uint8_t digest[BANYAN_DIGEST_SIZE], const banyan_launch_times *times)
{
    Digest slb;
    std::copy_n(digest, slb.size(), slb.begin());
    LaunchTimes when{};
    if (times != nullptr && times->size >= sizeof(*times)) {
        when = {times->start_ns, times->hash_start_ns, times->hash_end_ns, times->entry_ns,
                times->wait_for_other_domain_ns};
    }
    domains->table.launched(domain, slb, when);
}

banyan_reach banyan_domains_translate(const banyan_domains *domains, std::uint32_t domain, std::uint64_t gpa,
                                      std::uint64_t *hpa)
{
    switch (domains->table.translate(domain, gpa, *hpa)) {
    case Reach::kRam:
        return BANYAN_REACH_RAM;
    case Reach::kMmio:
        return BANYAN_REACH_MMIO;
    case Reach::kNone:
        break;
    }
    return BANYAN_REACH_NONE;
}

banyan_status banyan_domains_ram(const banyan_domains *domains, std::uint32_t domain, std::uint64_t gpa,
                                 std::uint64_t size, std::uint64_t *hpa)
{
    const auto found = domains->table.ram(domain, gpa, size);
    if (!found) {
        return to_c(Errc::kNotFound);
    }
    *hpa = *found;
    return BANYAN_OK;
}

banyan_status banyan_domains_range(const banyan_domains *domains, std::uint32_t domain, std::uint32_t index,
                                   std::uint64_t *gpa, std::uint64_t *hpa, std::uint64_t *size)
{
    const auto range = domains->table.range(domain, index);
    if (!range) {
        return to_c(Errc::kNotFound);
    }
    *gpa = range->gpa;
    *hpa = range->hpa;
    *size = range->size;
    return BANYAN_OK;
}

int banyan_domains_closed(const banyan_domains *domains, std::uint32_t domain)
{
    return domains->table.is_closed(domain) ? 1 : 0;
}

std::uint32_t banyan_domains_of_root_port(const banyan_domains *domains, std::uint8_t devfn)
{
    return domains->table.of_root_port(devfn);
}

std::uint64_t banyan_domains_cores(const banyan_domains *domains, std::uint32_t domain)
{
    return domains->table.cores(domain);
}

std::uint32_t banyan_domains_instance(const banyan_domains *domains, std::uint32_t domain)
{
    return domains->table.instance(domain);
}

void banyan_domains_set_insecure(banyan_domains *domains, std::uint32_t bits)
{
    domains->table.add_insecure(bits);
}

int banyan_domains_port(banyan_domains *domains, std::uint32_t domain, std::uint16_t port, unsigned width, int write,
                        std::uint32_t *value)
{
    std::uint32_t denied = 0;
    if (domains->table.port(domain, port, width, write != 0, denied)) {
        return 1;
    }
    if (write == 0 && value != nullptr) {
        *value = denied;
    }
    return 0;
}

banyan_msr_action banyan_domains_msr(banyan_domains *domains, std::uint32_t domain, std::uint32_t msr, int write,
                                     std::uint64_t *value, std::uint64_t *write_mask)
{
    const banyan::access::MsrAnswer answer = domains->table.msr(domain, msr, write != 0);
    *value = answer.value;
    *write_mask = answer.write_mask;
    switch (answer.action) {
    case banyan::dt::MsrAction::kPass:
        return BANYAN_MSR_PASS;
    case banyan::dt::MsrAction::kConstant:
        return BANYAN_MSR_CONSTANT;
    case banyan::dt::MsrAction::kFault:
        break;
    }
    return BANYAN_MSR_FAULT;
}

void banyan_domains_deny(banyan_domains *domains, std::uint32_t domain, banyan_denied what)
{
    switch (what) {
    case BANYAN_DENIED_PORT:
        return domains->table.deny(domain, Denied::kPort);
    case BANYAN_DENIED_MMIO:
        return domains->table.deny(domain, Denied::kMmio);
    case BANYAN_DENIED_INTERRUPT:
        return domains->table.deny(domain, Denied::kInterrupt);
    case BANYAN_DENIED_MSR:
        return domains->table.deny(domain, Denied::kMsr);
    case BANYAN_DENIED_DMA:
        return domains->table.deny(domain, Denied::kDma);
    }
}

char *banyan_domains_json(const banyan_domains *domains, std::int64_t vtime_ns)
{
    const std::string text = domains->table.json(vtime_ns);
    char *copy = static_cast<char *>(std::malloc(text.size() + 1));
    if (copy != nullptr) {
        std::memcpy(copy, text.c_str(), text.size() + 1);
    }
    return copy;
}
