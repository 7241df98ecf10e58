// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "banyan/base/result.hpp"
#include "vtpm/chip/crb_regs.hpp"
#include "vtpm/chip/interface.hpp"
#include "vtpm/chip/launch_state.hpp"
#include "vtpm/chip/pcr_banks.hpp"
#include "vtpm/chip/startup.hpp"
#include "vtpm/link/instance_link.hpp"
#include "vtpm/manager/account.hpp"
#include "vtpm/manager/after_death.hpp"

namespace banyan::vtpm {

/// Virtual time from tpmGo to the response, under icount: a function of the command alone.
[[nodiscard]] std::uint64_t command_cost_ns(std::uint32_t command_code);

/// The numbers are those of the C ABI.
enum class PowerState : std::uint8_t { kOff, kStarting, kReady, kStopping, kFailed, kAbsent, kHeld, kParked };

/// How it powers on. kHeld: the chip stops between _TPM_Init and TPM2_Startup for one H-CRTM sequence.
enum class PowerOn : std::uint8_t { kStartup, kHeld };

/// The number is that of the C ABI.
enum class InterfaceKind : std::uint8_t { kTis, kCrb };

enum class LaunchProgress : std::uint8_t { kDone, kBusy, kFailed };

/// What software finds; the machine's choice, never the guest's.
struct InstanceSetup {
    InterfaceKind interface = InterfaceKind::kTis;
    std::uint32_t did_vid = 0; // 0: the default
    std::uint32_t banks = kAllPcrBanks;
    bool interrupts = false;
    std::uint64_t window = crb::kWindowBase; // its physical address
};

struct InstanceConfig {
    std::uint64_t sync_bound_ns = 0;
    bool deterministic = false;
    InstanceSetup setup{};
    // Called with the instance locked:
    std::function<void(bool)> irq{};             // the line's new level. Empty: no wire
    std::function<void(std::int64_t)> look_at{}; // deterministic: look() is wanted at this virtual time
};

struct InstanceCounters {
    std::uint64_t power_ons = 0;
    std::uint64_t in_doorbell = 0; // of them answered inside the tpmGo write
    std::uint64_t malformed = 0;   // refused by their header, the engine never saw them
    std::uint64_t abandoned = 0;
    std::uint64_t launches = 0;
    std::uint64_t restarts = 0; // of the worker after it died
    std::uint64_t store_failures = 0;
    std::uint64_t locality4_writes = 0; // by software, without effect
    std::uint64_t unpowered = 0;        // accesses while it was off
    std::uint64_t denied = 0;           // writes without effect: to locality 4, or while it was off
};

[[nodiscard]] std::unique_ptr<Interface> make_interface(const InstanceSetup &setup);

/// What an instance holds outside its TPM, in a snapshot.
struct InterfaceImage {
    PowerState state = PowerState::kOff; // kOff, kReady or kFailed
    unsigned deaths = 0;
    std::unique_ptr<Interface> interface;
    bool held = false; // deterministic: a response that is there, its time is not
    std::int64_t visible_at_ns = 0;
    std::vector<std::uint8_t> response; // held
};

/// Bytes that may come from anybody: what could not have been saved by an instance of this setup is refused.
[[nodiscard]] Result<InterfaceImage> parse_interface(std::span<const std::uint8_t> bytes, const InstanceSetup &setup);

/// One TPM: interface, power, launch, and the way to its worker. Thread safe: one lock, held for no wait. Only write()
/// waits, without the lock; in deterministic mode also state() and launch_poll(), whose answer the guest can see; and
/// save() and resume(), which are called with the machine stopped.
class Instance {
public:
    /// The observer, when there is one, outlives the instance.
    Instance(InstanceConfig config, std::unique_ptr<InstanceLink> link, Observer *observer = nullptr);

    [[nodiscard]] std::uint64_t read(std::uint32_t offset, unsigned width, std::int64_t now_ns);
    void write(std::uint32_t offset, unsigned width, std::uint64_t value, std::int64_t now_ns);

    /// While it is off.
    [[nodiscard]] Status configure(const InstanceSetup &setup);
    [[nodiscard]] InstanceSetup setup();
    /// Firmware has been told of this TPM and will start it once more.
    void expect_firmware();
    [[nodiscard]] Status power_on(PowerOn mode = PowerOn::kStartup);
    [[nodiscard]] Status power_off();
    [[nodiscard]] Status erase();
    [[nodiscard]] PowerState state();

    /// Who waits for an interrupt asks nobody, so somebody looks when the bell rings. -1: without interrupts there is
    /// none, and deterministic ones come at a virtual time (InstanceConfig::look_at).
    [[nodiscard]] int bell();
    /// Never waits for the lock, deterministic ones aside: who has it looks when he lets go of it.
    void look(std::int64_t now_ns);

    [[nodiscard]] Status launch(LaunchEvent event, std::span<const std::uint8_t> data);
    [[nodiscard]] LaunchProgress launch_poll();

    /// Snapshot. save() lets the command under way end, so that none is in it by half; refuses an open launch.
    [[nodiscard]] Result<std::vector<std::uint8_t>> save(const SealOrder &order, std::int64_t now_ns, std::string &why);
    /// Checks a part and keeps the TPM's state in it ready in the engine; nothing changes yet.
    [[nodiscard]] Result<InterfaceImage> open(std::span<const std::uint8_t> part, std::string &why);
    /// Goes on with what was opened last. On failure the instance is failed, or off.
    [[nodiscard]] Status resume(InterfaceImage image, std::string &why);
    /// Its state went on elsewhere.
    void lose();

    [[nodiscard]] std::string json();

private:
    static constexpr std::int64_t kNoLook = -1;
    enum class Work : std::uint8_t { kNone, kCommand, kAbandoned, kLaunch, kResetEstablished, kStartup };

    /// The lock. Whoever lets go of it has brought interrupt line and book up to date, has what goes on looked at, and
    /// looks for who could not wait.
    class Guard {
    public:
        explicit Guard(Instance &instance) : instance_(instance), lock_(instance.mutex_) {}
        ~Guard()
        {
            if (lock_.owns_lock()) {
                instance_.tell_host();
                instance_.ask_for_look();
                lock_.unlock();
                instance_.look_if_owed();
            }
        }
        Guard(const Guard &) = delete;
        Guard &operator=(const Guard &) = delete;
        void unlock()
        {
            instance_.tell_host();
            lock_.unlock();
            instance_.look_if_owed();
        }
        void lock() { lock_.lock(); }

    private:
        Instance &instance_;
        std::unique_lock<std::mutex> lock_;
    };

    void service(std::int64_t now_ns);
    void settle();
    void look_around(std::int64_t now_ns);
    void look_if_owed();
    void look_after_idle_worker();
    void finish_work(const Answer &answer, std::int64_t now_ns);
    void worker_gone(Health how);
    void worker_lost();
    [[nodiscard]] LifePart life_part() const;
    void become_failed();
    void perform(Wish wish, std::int64_t now_ns);
    void dispatch(std::int64_t now_ns);
    void give_back(std::span<const std::uint8_t> response);
    void answer_code(TpmRc why);
    void reset_established();
    void launch_event(LaunchEvent event);
    void respond(std::size_t size);
    void startup();
    void tell_host();
    void ask_for_look();
    void wait_for_worker(Guard &guard, std::uint64_t bound_ns, bool soon = true);
    [[nodiscard]] bool at_rest();
    [[nodiscard]] bool checkpoint(Guard &guard);
    [[nodiscard]] bool launch_is_open() const; // or one that comes before TPM2_Startup
    [[nodiscard]] bool launch_under_way() const { return launch_busy(launch_) || work_ == Work::kStartup; }
    [[nodiscard]] bool powered() const
    {
        return state_ == PowerState::kReady || state_ == PowerState::kFailed || state_ == PowerState::kParked;
    }

    const InstanceConfig config_;
    InstanceSetup setup_;
    std::mutex mutex_;
    std::atomic<std::int64_t> look_owed_{kNoLook}; // and when it was asked for
    std::unique_ptr<InstanceLink> link_;
    std::unique_ptr<Interface> interface_;
    FirmwareStartup firmware_;
    bool irq_ = false;  // as the host last heard
    bool hold_ = false; // this power-on stops before TPM2_Startup
    PowerState state_ = PowerState::kOff;
    LaunchState launch_ = LaunchState::kClosed;
    Work work_ = Work::kNone;
    std::uint64_t ticket_ = 0;        // of the work under way or last done
    bool established_wanted_ = false; // a reset of tpmEstablishment waits for the engine
    bool erasing_ = false;
    unsigned deaths_ = 0;   // of the worker in this power cycle
    bool resuming_ = false; // what starts goes on with a snapshot's state
    bool held_ = false;     // deterministic: the response is there, its time is not
    std::int64_t visible_at_ns_ = 0;
    bool look_asked_ = false; // for that time
    std::size_t staged_size_ = 0;
    std::vector<std::uint8_t> staged_; // response, launch data
    InstanceCounters counters_;
    Account account_;
};

} // namespace banyan::vtpm
