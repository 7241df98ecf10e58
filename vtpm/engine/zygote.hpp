// SPDX-License-Identifier: GPL-2.0-or-later
// The zygote: warm, never the owner of a TPM, forks one worker per instance when QEMU asks.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <sys/types.h>
#include <unordered_map>
#include <vector>

#include "vtpm/engine/outbox.hpp"
#include "vtpm/engine/pool.hpp"
#include "vtpm/engine/roles.hpp"
#include "vtpm/engine/standby.hpp"
#include "vtpm/link/control.hpp"
#include "vtpm/link/mailbox.hpp"

namespace banyan::vtpm {

class Zygote {
public:
    /// made: which instances have a state; the others get one from the pool when they first start, or before that if
    /// the next few may stand by.
    Zygote(int control, int keeper, int signer, const std::vector<bool> &made, bool stand_by)
        : control_(control),
          outbox_(control),
          keeper_(keeper),
          signer_(signer),
          standby_(stand_by),
          instances_(made.size()),
          pool_(static_cast<std::uint32_t>(std::count(made.begin(), made.end(), false)))
    {
        for (std::size_t i = 0; i < made.size(); ++i) {
            instances_[i].made = made[i];
        }
    }
    [[nodiscard]] int run(const std::string &level);

private:
    struct Instance {
        pid_t worker = -1;
        std::uint32_t life = 0;
        int mailbox = -1; // to read which call was refused
        int line = -1;    // the worker's end of its host's
        int vault = -1;
        int door = -1;        // to a worker that stands by: nobody has asked for the TPM yet
        bool made = false;    // the keeper has its state
        bool ahead = false;   // made, but nobody has asked for it yet
        bool erased = false;  // it gets no TPM unasked
        bool spoilt = false;  // what stands by met a disk that fails
        bool waiting = false; // a spawn waits for the pool
        ControlMessage request;
        std::vector<int> request_fds;
    };

    struct Maker {
        Pool::Need why;
        int output;
        int state; // memory file: never read here, where workers are forked from
    };

    void from_host();
    void from_keeper();
    void from_maker(std::size_t index);
    void reap();
    void kill_worker(Instance &instance);
    void look_after_pool();
    [[nodiscard]] bool start_maker(Pool::Need why);
    [[nodiscard]] bool hand_over(const Pool::Grant &grant);
    void snapshot(const ControlMessage &request, std::vector<int> &fds);
    void spawn(std::uint32_t index, const ControlMessage &request, std::vector<int> &fds);
    [[nodiscard]] bool open_door(std::uint32_t index, const ControlMessage &request, std::vector<int> &fds);
    void stand_by();
    void stop_standby();
    [[nodiscard]] bool start_standby(std::uint32_t index);
    [[nodiscard]] int introduce(std::uint32_t index, bool restore);
    void say(ControlKind kind, std::uint32_t index, std::int32_t status, const std::string &event,
             const std::string &text);
    static void keep_ends(Instance &instance, std::vector<int> &fds);
    void refuse(std::uint32_t index, std::span<const int> fds, ControlKind kind, const char *event, const char *text);
    void cannot_make(std::uint32_t index);
    [[nodiscard]] std::string cause_of(const Instance &instance, int status, std::string &event) const;

    int control_;
    Outbox<ControlMessage> outbox_;
    int keeper_;
    int signer_;
    int signals_ = -1;
    bool stopping_ = false;
    StandBy standby_;
    WorkerFilters filters_;
    std::vector<Instance> instances_;
    std::unordered_map<pid_t, std::uint32_t> workers_; // running or not collected yet, and whose
    std::vector<Maker> makers_;
    Pool pool_;
};

/// A worker that ends with one of its own words has a reason that the next one will find, too.
[[nodiscard]] WorkerEnd end_of(int status);

void close_all(std::vector<int> &fds);

} // namespace banyan::vtpm
