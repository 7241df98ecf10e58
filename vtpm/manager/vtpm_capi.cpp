// SPDX-License-Identifier: GPL-2.0-or-later
#include "banyan/capi/vtpm.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "banyan/base/result.hpp"
#include "vtpm/link/engine_link.hpp"
#include "vtpm/manager/binding.hpp"
#include "vtpm/manager/instance.hpp"
#include "vtpm/manager/snapshots.hpp"

using banyan::Errc;
using banyan::fail;
using banyan::Status;
using banyan::vtpm::Instance;

namespace {

/// Hands an instance's book to the host.
class HostObserver final : public banyan::vtpm::Observer {
public:
    HostObserver(const banyan_vtpm_host_ops &ops, void *opaque, std::uint32_t instance)
        : ops_(ops),
          opaque_(opaque),
          instance_(instance)
    {}
    void command(const banyan::vtpm::CommandRecord &record) override
    {
        if (ops_.command != nullptr) {
            const banyan_vtpm_command out{
                sizeof(out),   instance_, record.locality, record.code, record.command_size, record.response_size,
                record.result, 0,         record.ns};
            ops_.command(opaque_, &out);
        }
    }
    void locality(std::uint8_t from, std::uint8_t to) override
    {
        if (ops_.locality != nullptr) {
            ops_.locality(opaque_, instance_, number(from), number(to));
        }
    }
    std::int64_t host_ns() override { return ops_.host_ns != nullptr ? ops_.host_ns(opaque_) : 0; }

private:
    [[nodiscard]] static std::int32_t number(std::uint8_t locality)
    {
        return locality == banyan::vtpm::kNoLocality ? -1 : std::int32_t{locality};
    }

    const banyan_vtpm_host_ops ops_;
    void *const opaque_;
    const std::uint32_t instance_;
};

} // namespace

struct banyan_vtpm {
    banyan_vtpm_config config{};
    banyan_vtpm_host_ops ops{};
    void *opaque = nullptr;
    std::unique_ptr<banyan::vtpm::EngineLink> engine;
    std::vector<std::unique_ptr<HostObserver>> observers; // the next two never change after creation
    std::vector<std::unique_ptr<Instance>> instances;
    std::array<std::atomic<bool>, banyan::vtpm::kMaxInstances> set_up{}; // by banyan_vtpm_set_up
    std::unique_ptr<banyan::vtpm::Snapshots> snapshots;
    banyan::vtpm::BindingTable bindings;
    std::atomic<std::uint64_t> untagged{0};  // no requester, or not from a core
    std::atomic<std::uint64_t> unbound{0};   // a domain without an instance in that window
    std::atomic<std::uint64_t> misshapen{0}; // outside the window, or of no width

    [[nodiscard]] Instance *find(std::uint32_t index) const
    {
        return index < instances.size() ? instances[index].get() : nullptr;
    }

    [[nodiscard]] Instance *of_cycle(const banyan_cycle &cycle, std::uint32_t window)
    {
        if (cycle.requester == 0 || cycle.from_core != 1) { // unmarked never means privileged
            untagged.fetch_add(1, std::memory_order_relaxed);
            return nullptr;
        }
        Instance *instance = find(bindings.of_requester(cycle.requester, window));
        if (instance == nullptr) {
            unbound.fetch_add(1, std::memory_order_relaxed);
        }
        return instance;
    }

    [[nodiscard]] bool in_window(std::uint64_t offset, unsigned width)
    {
        const bool fits = (width == 1 || width == 2 || width == 4 || width == 8) && offset < BANYAN_VTPM_WINDOW_SIZE &&
                          offset + width <= BANYAN_VTPM_WINDOW_SIZE;
        if (!fits) {
            misshapen.fetch_add(1, std::memory_order_relaxed);
        }
        return fits;
    }

    void report_events()
    {
        for (const auto &event : engine->take_events()) {
            if (ops.event != nullptr) {
                ops.event(opaque, event.instance, event.kind.c_str(), event.text.c_str());
            }
        }
    }
};

namespace {

constexpr banyan_status to_c(Errc why)
{
    return -static_cast<banyan_status>(why);
}

banyan_status to_c(const Status &status)
{
    return status ? BANYAN_OK : to_c(status.error());
}

bool usable(const banyan_cycle *cycle)
{
    return cycle != nullptr && cycle->size >= sizeof(*cycle);
}

banyan_vtpm_state to_c(banyan::vtpm::PowerState state)
{
    return static_cast<banyan_vtpm_state>(state);
}
static_assert(BANYAN_VTPM_OFF == static_cast<int>(banyan::vtpm::PowerState::kOff));
static_assert(BANYAN_VTPM_STARTING == static_cast<int>(banyan::vtpm::PowerState::kStarting));
static_assert(BANYAN_VTPM_READY == static_cast<int>(banyan::vtpm::PowerState::kReady));
static_assert(BANYAN_VTPM_STOPPING == static_cast<int>(banyan::vtpm::PowerState::kStopping));
static_assert(BANYAN_VTPM_FAILED == static_cast<int>(banyan::vtpm::PowerState::kFailed));
static_assert(BANYAN_VTPM_ABSENT == static_cast<int>(banyan::vtpm::PowerState::kAbsent));
static_assert(BANYAN_VTPM_HELD == static_cast<int>(banyan::vtpm::PowerState::kHeld));
static_assert(BANYAN_VTPM_TIS == static_cast<int>(banyan::vtpm::InterfaceKind::kTis));
static_assert(BANYAN_VTPM_CRB == static_cast<int>(banyan::vtpm::InterfaceKind::kCrb));
static_assert((BANYAN_VTPM_SHA1 | BANYAN_VTPM_SHA256 | BANYAN_VTPM_SHA384) == banyan::vtpm::kAllPcrBanks);
static_assert(BANYAN_VTPM_PARKED == static_cast<int>(banyan::vtpm::PowerState::kParked));
static_assert(BANYAN_DRTM_DATA_MAX == banyan::vtpm::kLaunchDataMax);

banyan_status to_c(banyan::vtpm::LaunchProgress progress)
{
    switch (progress) {
    case banyan::vtpm::LaunchProgress::kDone:
        return BANYAN_OK;
    case banyan::vtpm::LaunchProgress::kBusy:
        return BANYAN_BUSY;
    case banyan::vtpm::LaunchProgress::kFailed:
        break;
    }
    return to_c(Errc::kBadState);
}

struct Named {
    std::string_view name;
    std::uint32_t number;
};
constexpr std::array kInterfaceNames{Named{"tis", BANYAN_VTPM_TIS}, Named{"crb", BANYAN_VTPM_CRB}};
constexpr std::array kBankNames{Named{"sha1", BANYAN_VTPM_SHA1}, Named{"sha256", BANYAN_VTPM_SHA256},
                                Named{"sha384", BANYAN_VTPM_SHA384}};

std::optional<std::uint32_t> number_of(std::span<const Named> names, std::string_view name)
{
    for (const Named &one : names) {
        if (one.name == name) {
            return one.number;
        }
    }
    return std::nullopt;
}

std::optional<std::uint32_t> banks_of(std::string_view list)
{
    std::uint32_t set = 0;
    for (bool more = true; more;) {
        const std::size_t end = std::min(list.find('+'), list.size());
        const auto bank = number_of(kBankNames, list.substr(0, end));
        if (!bank) {
            return std::nullopt;
        }
        set |= *bank;
        more = end < list.size();
        list.remove_prefix(more ? end + 1 : end);
    }
    return set;
}

banyan::vtpm::InstanceSetup to_setup(const banyan_vtpm_instance_config &config, std::uint32_t chips_did_vid)
{
    banyan::vtpm::InstanceSetup setup;
    setup.interface = static_cast<banyan::vtpm::InterfaceKind>(config.interface);
    setup.did_vid = config.did_vid != 0 ? config.did_vid : chips_did_vid;
    setup.banks = config.banks != 0 ? config.banks : setup.banks;
    setup.interrupts = config.interrupts != 0;
    setup.window = config.window != 0 ? config.window : setup.window;
    return setup;
}

char *copy_of(const std::string &text)
{
    return ::strdup(text.c_str());
}

std::string no_instance(const banyan_vtpm &vtpm, std::uint32_t instance)
{
    return "the vTPM chip has " + std::to_string(vtpm.instances.size()) + " instances, so no instance " +
           std::to_string(instance);
}

/// An access to a window: its number, and where in it.
struct Aim {
    std::uint32_t window;
    std::uint64_t offset;
};

/// Beside every further window of the requester's: a window that nobody has.
Aim further(banyan_vtpm *vtpm, const banyan_cycle *cycle, std::uint64_t offset)
{
    if (vtpm == nullptr || !usable(cycle)) {
        return {};
    }
    const auto place = vtpm->bindings.place_of(cycle->requester, offset);
    return {place.window != 0 ? place.window : banyan::vtpm::BindingTable::kWindows, place.offset};
}

banyan_status read(banyan_vtpm *vtpm, const banyan_cycle *cycle, Aim aim, unsigned width, std::uint64_t *value)
{
    if (vtpm == nullptr || !usable(cycle) || value == nullptr) {
        return to_c(Errc::kBadArgument);
    }
    *value = width >= 8 ? ~std::uint64_t{0} : (std::uint64_t{1} << (width * 8)) - 1;
    Instance *instance = vtpm->in_window(aim.offset, width) ? vtpm->of_cycle(*cycle, aim.window) : nullptr;
    if (instance != nullptr) {
        *value &= instance->read(static_cast<std::uint32_t>(aim.offset), width, cycle->vtime_ns);
        vtpm->report_events();
    }
    return BANYAN_OK;
}

banyan_status write(banyan_vtpm *vtpm, const banyan_cycle *cycle, Aim aim, unsigned width, std::uint64_t value)
{
    if (vtpm == nullptr || !usable(cycle)) {
        return to_c(Errc::kBadArgument);
    }
    Instance *instance = vtpm->in_window(aim.offset, width) ? vtpm->of_cycle(*cycle, aim.window) : nullptr;
    if (instance != nullptr) {
        instance->write(static_cast<std::uint32_t>(aim.offset), width, value, cycle->vtime_ns);
        vtpm->report_events();
    }
    return BANYAN_OK;
}

// TCG ACPI Specification 1.4, table 8 and section 8
constexpr std::uint32_t kStartMethodFifo = 6;
constexpr std::uint32_t kStartMethodCrb = 7;
constexpr char kHidTpm2[] = "MSFT0101";
constexpr char kHidFifo[] = "PNP0C31"; // TCG PC Client TIS 1.3, section 9

} // namespace

std::uint32_t banyan_vtpm_abi_version(void) // NOLINT(modernize-redundant-void-arg): the C declaration
{
    return BANYAN_VTPM_ABI_VERSION;
}

banyan_status banyan_vtpm_create(const banyan_vtpm_config *config, const banyan_vtpm_host_ops *ops, void *opaque,
                                 banyan_vtpm **out, char **error)
{
    std::string why;
    const auto refuse = [&](Errc code) {
        if (error != nullptr) {
            *error = copy_of(why);
        }
        return to_c(code);
    };
    if (config == nullptr || out == nullptr || config->size < sizeof(*config) || config->engine == nullptr ||
        (ops != nullptr && ops->size < sizeof(*ops))) {
        why = "banyan_vtpm_create: a pointer is missing or a struct is too small";
        return refuse(Errc::kBadArgument);
    }
    if (config->instances == 0 || config->instances > banyan::vtpm::kMaxInstances) {
        why = "the number of vTPM instances must be 1 to " + std::to_string(banyan::vtpm::kMaxInstances);
        return refuse(Errc::kBadArgument);
    }
    if (config->rollback > BANYAN_ROLLBACK_REPORT || config->require_sandbox > BANYAN_SANDBOX_FULL) {
        why = "banyan_vtpm_create: no such rollback policy or sandbox";
        return refuse(Errc::kBadArgument);
    }
    std::unique_ptr<banyan_vtpm> vtpm(new (std::nothrow) banyan_vtpm);
    if (!vtpm) {
        why = "out of memory";
        return refuse(Errc::kNoSpace);
    }
    vtpm->config = *config;
    if (ops != nullptr) {
        vtpm->ops = *ops;
    }
    vtpm->opaque = opaque;
    const auto text_of = [](const char *text) { return text != nullptr ? text : ""; };
    auto engine = banyan::vtpm::EngineLink::start(
        {config->engine, text_of(config->platform), config->instances, config->rollback == BANYAN_ROLLBACK_REPORT,
         config->require_sandbox == BANYAN_SANDBOX_FULL, text_of(config->snapshot_key), config->incoming != 0},
        why);
    vtpm->config.engine = nullptr; // the caller's
    vtpm->config.platform = nullptr;
    vtpm->config.snapshot_key = nullptr;
    if (!engine) {
        return refuse(engine.error());
    }
    vtpm->engine = std::move(*engine);
    banyan::vtpm::InstanceConfig instance_config{config->sync_bound_ns, config->deterministic != 0};
    instance_config.setup.did_vid = config->did_vid;
    for (std::uint32_t i = 0; i < config->instances; ++i) {
        if (vtpm->ops.irq != nullptr) {
            instance_config.irq = [chip = vtpm.get(), i](bool level) { chip->ops.irq(chip->opaque, i, level ? 1 : 0); };
        }
        if (vtpm->ops.look_at != nullptr) {
            instance_config.look_at = [chip = vtpm.get(), i](std::int64_t when) {
                chip->ops.look_at(chip->opaque, i, when);
            };
        }
        vtpm->observers.push_back(std::make_unique<HostObserver>(vtpm->ops, opaque, i));
        vtpm->instances.push_back(
            std::make_unique<Instance>(instance_config, vtpm->engine->instance(i), vtpm->observers.back().get()));
    }
    vtpm->snapshots = std::make_unique<banyan::vtpm::Snapshots>(*vtpm->engine, vtpm->instances, config->incoming != 0);
    (void)vtpm->bindings.bind(0, 0, 0);
    *out = vtpm.release();
    return BANYAN_OK;
}

void banyan_vtpm_destroy(banyan_vtpm *vtpm)
{
    delete vtpm;
}

banyan_status banyan_vtpm_mmio_read(banyan_vtpm *vtpm, const banyan_cycle *cycle, std::uint64_t offset, unsigned width,
                                    std::uint64_t *value)
{
    return read(vtpm, cycle, {0, offset}, width, value);
}

banyan_status banyan_vtpm_mmio_write(banyan_vtpm *vtpm, const banyan_cycle *cycle, std::uint64_t offset, unsigned width,
                                     std::uint64_t value)
{
    return write(vtpm, cycle, {0, offset}, width, value);
}

banyan_status banyan_vtpm_further_read(banyan_vtpm *vtpm, const banyan_cycle *cycle, std::uint64_t offset,
                                       unsigned width, std::uint64_t *value)
{
    return read(vtpm, cycle, further(vtpm, cycle, offset), width, value);
}

banyan_status banyan_vtpm_further_write(banyan_vtpm *vtpm, const banyan_cycle *cycle, std::uint64_t offset,
                                        unsigned width, std::uint64_t value)
{
    return write(vtpm, cycle, further(vtpm, cycle, offset), width, value);
}

banyan_status banyan_vtpm_add_window(banyan_vtpm *vtpm, std::uint32_t instance, std::uint64_t address,
                                     std::uint32_t *window, char **error)
{
    if (vtpm == nullptr || window == nullptr) {
        return to_c(Errc::kBadArgument);
    }
    const auto refuse = [&](Errc code, const std::string &why) {
        if (error != nullptr) {
            *error = copy_of(why);
        }
        return to_c(code);
    };
    if (vtpm->find(instance) == nullptr) {
        return refuse(Errc::kNotFound, no_instance(*vtpm, instance));
    }
    if (vtpm->find(instance)->setup().interface == banyan::vtpm::InterfaceKind::kCrb) {
        return refuse(Errc::kUnsupported,
                      "a CRB can be behind the first window alone: the TPM2 table names one address");
    }
    const auto added = vtpm->bindings.add_window(instance, address);
    if (added) {
        *window = *added;
        return BANYAN_OK;
    }
    switch (added.error()) {
    case Errc::kBusy:
        return refuse(Errc::kBusy, "instance " + std::to_string(instance) + " is behind another window");
    case Errc::kNoSpace:
        return refuse(Errc::kNoSpace, "there is no room for another window");
    default:
        return refuse(added.error(), "a window lies at a page between FED60000 and FEDFB000, clear of the others");
    }
}

banyan_status banyan_vtpm_describe(banyan_vtpm *vtpm, std::uint32_t window, banyan_vtpm_description *out)
{
    if (vtpm == nullptr || out == nullptr || out->size < sizeof(*out)) {
        return to_c(Errc::kBadArgument);
    }
    const std::uint64_t base = vtpm->bindings.base_of(0, window);
    const std::uint32_t instance = vtpm->bindings.of_domain(0, window);
    if (base == 0 || vtpm->find(instance) == nullptr) {
        return to_c(Errc::kNotFound);
    }
    const auto is_crb = [&](std::uint32_t of) {
        return vtpm->find(of)->setup().interface == banyan::vtpm::InterfaceKind::kCrb;
    };
    const bool crb = is_crb(instance);
    *out = banyan_vtpm_description{sizeof(*out),
                                   instance,
                                   base,
                                   banyan::dt::kVtpmSize,
                                   crb ? kStartMethodCrb : kStartMethodFifo,
                                   0,
                                   crb ? base + static_cast<std::uint32_t>(banyan::vtpm::crb::Reg::kCtrlReq) : 0,
                                   {}};
    // An OS takes the start method of every MSFT0101 from the one TPM2 table; a FIFO beside a CRB goes by another id.
    const bool odd = window != 0 && is_crb(vtpm->bindings.of_domain(0, 0));
    std::strncpy(out->hid, odd ? kHidFifo : kHidTpm2, sizeof(out->hid) - 1);
    return BANYAN_OK;
}

banyan_status banyan_vtpm_expect_firmware(banyan_vtpm *vtpm)
{
    Instance *it = vtpm == nullptr ? nullptr : vtpm->find(vtpm->bindings.of_domain(0, 0));
    if (it == nullptr) {
        return to_c(Errc::kBadArgument);
    }
    it->expect_firmware();
    return BANYAN_OK;
}

banyan_status banyan_vtpm_reset(banyan_vtpm *vtpm)
{
    if (vtpm == nullptr) {
        return to_c(Errc::kBadArgument);
    }
    banyan_status first = BANYAN_OK;
    for (std::uint32_t window = 0; window < banyan::vtpm::BindingTable::kWindows; ++window) {
        if (Instance *it = vtpm->find(vtpm->bindings.of_domain(0, window)); it != nullptr) {
            const banyan_status status = to_c(it->power_on());
            first = first != BANYAN_OK ? first : status;
        }
    }
    return first;
}

banyan_status banyan_vtpm_bind(banyan_vtpm *vtpm, std::uint32_t domain, std::uint32_t instance)
{
    return banyan_vtpm_bind_window(vtpm, domain, 0, instance);
}

banyan_status banyan_vtpm_bind_window(banyan_vtpm *vtpm, std::uint32_t domain, std::uint32_t window,
                                      std::uint32_t instance)
{
    Instance *it = vtpm == nullptr ? nullptr : vtpm->find(instance);
    if (it == nullptr) {
        return to_c(Errc::kBadArgument);
    }
    if (window != 0 && it->setup().interface == banyan::vtpm::InterfaceKind::kCrb) { // its registers name window 0
        return to_c(Errc::kUnsupported);
    }
    return to_c(vtpm->bindings.bind(domain, window, instance));
}

banyan_status banyan_vtpm_unbind(banyan_vtpm *vtpm, std::uint32_t domain)
{
    return vtpm == nullptr ? to_c(Errc::kBadArgument) : to_c(vtpm->bindings.unbind(domain));
}

banyan_status banyan_vtpm_parse(banyan_vtpm_instance_config *config, const char *interface, const char *banks)
{
    if (config == nullptr || config->size < sizeof(*config)) {
        return to_c(Errc::kBadArgument);
    }
    const auto kind = interface == nullptr ? std::optional(config->interface) : number_of(kInterfaceNames, interface);
    const auto set = banks == nullptr ? std::optional(config->banks) : banks_of(banks);
    if (!kind || !set) {
        return to_c(Errc::kBadArgument);
    }
    config->interface = *kind;
    config->banks = *set;
    return BANYAN_OK;
}

banyan_status banyan_vtpm_configure(banyan_vtpm *vtpm, std::uint32_t instance,
                                    const banyan_vtpm_instance_config *config)
{
    Instance *it = vtpm == nullptr ? nullptr : vtpm->find(instance);
    if (it == nullptr || config == nullptr || config->size < sizeof(*config) || config->interface > BANYAN_VTPM_CRB ||
        (config->banks & ~banyan::vtpm::kAllPcrBanks) != 0 || config->interrupts > 1 || config->reserved != 0 ||
        config->window % banyan::vtpm::kPageSize != 0) {
        return to_c(Errc::kBadArgument);
    }
    if (config->interface == BANYAN_VTPM_CRB && vtpm->bindings.in_further_window(instance)) {
        return to_c(Errc::kUnsupported);
    }
    return to_c(it->configure(to_setup(*config, vtpm->config.did_vid)));
}

banyan_status banyan_vtpm_set_up(banyan_vtpm *vtpm, std::uint32_t instance, const banyan_vtpm_instance_config *config,
                                 char **error)
{
    if (vtpm == nullptr || config == nullptr) {
        return to_c(Errc::kBadArgument);
    }
    const auto refuse = [&](banyan_status status, const std::string &why) {
        if (error != nullptr) {
            *error = copy_of(why);
        }
        return status;
    };
    if (vtpm->find(instance) == nullptr) {
        return refuse(to_c(Errc::kNotFound), no_instance(*vtpm, instance));
    }
    if (vtpm->set_up[instance].exchange(true)) {
        const bool seen = vtpm->bindings.of_domain(0, 0) == instance || vtpm->bindings.in_further_window(instance);
        return refuse(to_c(Errc::kBusy),
                      "instance " + std::to_string(instance) +
                          (seen ? " is behind another window" : " has its setup from another device"));
    }
    const banyan_status status = banyan_vtpm_configure(vtpm, instance, config);
    if (status != BANYAN_OK) {
        vtpm->set_up[instance] = false;
        return refuse(status, "instance " + std::to_string(instance) + " takes no such setup now");
    }
    return status;
}

int banyan_vtpm_bell(banyan_vtpm *vtpm, std::uint32_t instance)
{
    Instance *it = vtpm == nullptr ? nullptr : vtpm->find(instance);
    return it == nullptr ? -1 : it->bell();
}

banyan_status banyan_vtpm_look(banyan_vtpm *vtpm, std::uint32_t instance, std::int64_t vtime_ns)
{
    Instance *it = vtpm == nullptr ? nullptr : vtpm->find(instance);
    if (it == nullptr) {
        return to_c(Errc::kBadArgument);
    }
    it->look(vtime_ns);
    vtpm->report_events();
    return BANYAN_OK;
}

banyan_status banyan_vtpm_power_on_held(banyan_vtpm *vtpm, std::uint32_t instance)
{
    Instance *it = vtpm == nullptr ? nullptr : vtpm->find(instance);
    return it == nullptr ? to_c(Errc::kBadArgument) : to_c(it->power_on(banyan::vtpm::PowerOn::kHeld));
}

banyan_status banyan_vtpm_power_on(banyan_vtpm *vtpm, std::uint32_t instance)
{
    Instance *it = vtpm == nullptr ? nullptr : vtpm->find(instance);
    if (it == nullptr) {
        return to_c(Errc::kBadArgument);
    }
    return vtpm->snapshots->defer_power_on(instance) ? BANYAN_OK : to_c(it->power_on());
}

banyan_status banyan_vtpm_power_off(banyan_vtpm *vtpm, std::uint32_t instance)
{
    Instance *it = vtpm == nullptr ? nullptr : vtpm->find(instance);
    return it == nullptr ? to_c(Errc::kBadArgument) : to_c(it->power_off());
}

banyan_vtpm_state banyan_vtpm_instance_state(banyan_vtpm *vtpm, std::uint32_t instance)
{
    Instance *it = vtpm == nullptr ? nullptr : vtpm->find(instance);
    if (it == nullptr) {
        return BANYAN_VTPM_ABSENT;
    }
    const banyan_vtpm_state state = to_c(it->state());
    vtpm->engine->pump();
    vtpm->report_events();
    return state;
}

banyan_status banyan_vtpm_erase(banyan_vtpm *vtpm, std::uint32_t instance)
{
    Instance *it = vtpm == nullptr ? nullptr : vtpm->find(instance);
    return it == nullptr ? to_c(Errc::kBadArgument) : to_c(it->erase());
}

banyan_status banyan_vtpm_drtm(banyan_vtpm *vtpm, std::uint32_t instance, banyan_drtm_step step, const void *data,
                               std::uint32_t size)
{
    using banyan::vtpm::LaunchEvent;
    Instance *it = vtpm == nullptr ? nullptr : vtpm->find(instance);
    if (it == nullptr || (data == nullptr && size != 0)) {
        return to_c(Errc::kBadArgument);
    }
    const std::span<const std::uint8_t> bytes(static_cast<const std::uint8_t *>(data), size);
    switch (step) {
    case BANYAN_DRTM_START:
        return to_c(it->launch(LaunchEvent::kStart, {}));
    case BANYAN_DRTM_DATA:
        return to_c(it->launch(LaunchEvent::kData, bytes));
    case BANYAN_DRTM_END:
        return to_c(it->launch(LaunchEvent::kEnd, {}));
    case BANYAN_DRTM_ABORT:
        return to_c(it->launch(LaunchEvent::kAbort, {}));
    }
    return to_c(Errc::kBadArgument);
}

banyan_status banyan_vtpm_drtm_poll(banyan_vtpm *vtpm, std::uint32_t instance)
{
    Instance *it = vtpm == nullptr ? nullptr : vtpm->find(instance);
    if (it == nullptr) {
        return to_c(Errc::kBadArgument);
    }
    const banyan_status status = to_c(it->launch_poll());
    vtpm->report_events();
    return status;
}

namespace {

banyan_status tell(banyan_vtpm *vtpm, const Status &status, const std::string &why, char **error)
{
    vtpm->report_events();
    if (!status && error != nullptr) {
        *error = copy_of(why);
    }
    return to_c(status);
}

} // namespace

banyan_status banyan_vtpm_save(banyan_vtpm *vtpm, std::int64_t vtime_ns, int hand_over, std::uint8_t **bytes,
                               std::size_t *size, char **error)
{
    if (vtpm == nullptr || bytes == nullptr || size == nullptr) {
        return to_c(Errc::kBadArgument);
    }
    std::string why;
    const auto saved = vtpm->snapshots->save(vtime_ns, hand_over != 0, why);
    if (!saved) {
        return tell(vtpm, fail(saved.error()), why, error);
    }
    *bytes = static_cast<std::uint8_t *>(std::malloc(saved->size()));
    if (*bytes == nullptr) {
        return to_c(Errc::kNoSpace);
    }
    std::memcpy(*bytes, saved->data(), saved->size());
    *size = saved->size();
    return tell(vtpm, {}, why, error);
}

banyan_status banyan_vtpm_load(banyan_vtpm *vtpm, const std::uint8_t *bytes, std::size_t size, char **error)
{
    if (vtpm == nullptr || (bytes == nullptr && size != 0)) {
        return to_c(Errc::kBadArgument);
    }
    std::string why;
    const Status loaded = vtpm->snapshots->load({bytes, size}, why);
    return tell(vtpm, loaded, why, error);
}

banyan_status banyan_vtpm_run(banyan_vtpm *vtpm, char **error)
{
    if (vtpm == nullptr) {
        return to_c(Errc::kBadArgument);
    }
    std::string why;
    const Status running = vtpm->snapshots->run(why);
    return tell(vtpm, running, why, error);
}

banyan_status banyan_vtpm_sign(banyan_vtpm *vtpm, std::uint32_t slot, const banyan_report_facts *facts)
{
    if (vtpm == nullptr || facts == nullptr || facts->size < sizeof(*facts) || facts->nonce_size > BANYAN_NONCE_MAX ||
        vtpm->find(facts->instance) == nullptr) {
        return to_c(Errc::kBadArgument);
    }
    return to_c(vtpm->engine->sign(slot, *facts));
}

banyan_status banyan_vtpm_sign_poll(banyan_vtpm *vtpm, std::uint32_t slot, std::uint8_t *out, std::uint32_t *size)
{
    if (vtpm == nullptr || out == nullptr || size == nullptr) {
        return to_c(Errc::kBadArgument);
    }
    return vtpm->engine->sign_poll(slot, out, size, vtpm->config.deterministic != 0);
}

char *banyan_vtpm_json(banyan_vtpm *vtpm)
{
    if (vtpm == nullptr) {
        return nullptr;
    }
    vtpm->engine->pump();
    vtpm->report_events();
    std::string text = "{\"schema\":1,\"engine\":\"";
    text += vtpm->engine->alive() ? "running" : "ended";
    text += "\",\"sandbox\":\"" + vtpm->engine->sandbox() + "\",\"untagged\":" + std::to_string(vtpm->untagged) +
            ",\"unbound\":" + std::to_string(vtpm->unbound) + ",\"misshapen\":" + std::to_string(vtpm->misshapen) +
            ",\"rolled_back\":" + std::to_string(vtpm->engine->rolled_back()) + ",\"instances\":[";
    for (std::size_t i = 0; i < vtpm->instances.size(); ++i) {
        text += (i == 0 ? "" : ",") + vtpm->instances[i]->json();
    }
    text += "],\"windows\":[";
    const char *separator = "";
    for (std::uint32_t domain = 0; domain <= BANYAN_MAX_DOMAINS; ++domain) {
        for (std::uint32_t window = 0; window < banyan::vtpm::BindingTable::kWindows; ++window) {
            const std::uint32_t instance = vtpm->bindings.of_domain(domain, window);
            if (instance != banyan::vtpm::BindingTable::kNone) {
                text += std::string(separator) + "{\"domain\":" + std::to_string(domain) +
                        ",\"window\":" + std::to_string(window) +
                        ",\"address\":" + std::to_string(vtpm->bindings.base_of(domain, window)) +
                        ",\"instance\":" + std::to_string(instance) + "}";
                separator = ",";
            }
        }
    }
    return copy_of(text + "]}");
}
