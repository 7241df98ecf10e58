// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "vtpm/link/instance_link.hpp"
#include "vtpm/serve/request.hpp"
#include "vtpm/serve/serve_state.hpp"

namespace banyan::vtpm {

/// What clients may do. What they may not is answered with the protocol's error and is no capability.
struct ServePolicy {
    bool drtm_by_client = false; // locality 4 and the hash commands
    bool state_export = false;   // state blobs, out and in
    bool startup = false;        // each init issues TPM2_Startup(CLEAR); else the client does
};

/// libtpms' words on itself, by (attributes << 1 | specification).
using TpmInformation = std::array<std::string, 4>;

/// One served instance: power, localities, hash sequence, state blobs, and the order in which its clients' requests go
/// to the worker. Knows no socket and no clock; never waits.
///
/// Each client has at most one request here. Not thread safe.
class ControlMachine {
public:
    using Client = std::uint64_t;

    struct Answer {
        Client client = 0;
        Reply reply;
    };

    struct Counters {
        std::uint64_t commands = 0;
        std::uint64_t inits = 0;
        std::uint64_t restarts = 0;
        std::uint64_t refused = 0; // by policy
    };

    ControlMachine(const ServePolicy &policy, const TpmInformation &information, std::unique_ptr<InstanceLink> link);

    void request(Client client, Request request);
    /// The client has gone: what it waits for is not begun; what has begun goes on, and nobody hears of it.
    void forget(Client client);
    /// Takes in what the engine did and gives it what is next.
    void service();
    [[nodiscard]] std::optional<Answer> next_answer();

    [[nodiscard]] std::shared_ptr<Waiter> waiter() { return link_->waiter(); }
    [[nodiscard]] ServeState state() const { return state_; }
    /// A worker is expected to do something; service() now and then sees that it does.
    [[nodiscard]] bool busy() const
    {
        return job_ || state_ == ServeState::kStarting || state_ == ServeState::kRecovering;
    }
    /// The engine had no room for a request: service() asks again.
    [[nodiscard]] bool asks_again() const { return start_again_.has_value(); }
    [[nodiscard]] const Counters &counters() const { return counters_; }
    [[nodiscard]] std::uint8_t locality() const { return locality_; }

private:
    struct Job {
        Client client;
        Request request;
        Reply reply; // of more than one step
    };

    [[nodiscard]] bool answered_at_once(Client client, const Request &request);
    [[nodiscard]] std::optional<swtpm::Result> refusal(const Request &request) const;
    void answer(Client client, Reply reply);
    void answer(Client client, swtpm::Result result) { answer(client, Reply{.result = result, .data = {}}); }
    void answer_not_done(Client client, const Request &request, swtpm::Result why);
    [[nodiscard]] bool power(Client client, const Request &request);
    void event(ServeEvent what);
    void be_as_new();
    void start();
    void start_link(bool restore);
    void fail_job();
    void answer_initializer(swtpm::Result result);
    void watch_start();
    void watch_job();
    void begin_next();
    void begin();
    void post(Op op, std::uint8_t locality, std::span<const std::uint8_t> bytes);
    void post_read(std::uint32_t offset);
    void take_in(const vtpm::Answer &answer);
    void take_in_state(std::size_t size);
    [[nodiscard]] swtpm::Result take_blob_part(const Request &request);
    void queue_blob(swtpm::BlobType type, const ServeBytes &bytes);

    const ServePolicy policy_;
    const TpmInformation &information_;
    std::unique_ptr<InstanceLink> link_;
    ServeState state_ = ServeState::kOff;
    Counters counters_;

    std::deque<Job> waiting_;
    std::optional<Job> job_; // the engine works on it
    std::deque<Answer> answers_;
    ServeBytes into_;

    std::uint8_t locality_ = 0;
    bool established_ = false;
    bool hash_open_ = false; // from HASH_START until HASH_END is done: no older state may come back
    bool resume_ = false;    // the next init goes on where this life ended
    unsigned deaths_ = 0;    // since the last init
    std::uint32_t buffer_size_ = 0;

    struct Blob { // to be put in at the next init
        ServeBytes bytes;
        bool whole = false;   // its last part has come
        bool spoiled = false; // it is too large
    };
    Blob permanent_;
    Blob volatile_;
    struct Operation {
        Op op;
        ServeBytes bytes;
    };
    std::vector<Operation> put_in_; // while starting: what brings the blobs into the worker
    std::size_t put_in_at_ = 0;     // the next of them, or the one under way
    bool putting_in_ = false;
    bool from_checkpoint_ = false;      // this init goes on where the last life was stored
    std::optional<bool> start_again_;   // with this `restore`
    std::optional<Client> initializer_; // waits for the end of its init
};

} // namespace banyan::vtpm
