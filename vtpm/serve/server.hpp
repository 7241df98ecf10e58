// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <sys/types.h>
#include <vector>

#include "vtpm/link/engine_link.hpp"
#include "vtpm/serve/control_machine.hpp"
#include "vtpm/serve/sockets.hpp"

namespace banyan::vtpm {

struct ServerOptions {
    std::uint32_t instances = 1;
    std::string folder; // of the sockets
    ServePolicy policy;
    bool power_on = false; // at once; else by the client's init
    bool tcp = false;      // swtpm's two sockets on 127.0.0.1 as well
    bool mssim = false;    // the simulator's, as UNIX sockets and on 127.0.0.1
};

/// Where clients find an instance. As tpm2-tss wants them: the second UNIX socket is the first's name and ".ctrl", the
/// second TCP port the one after the first.
struct Endpoints {
    std::string data; // swtpm's
    std::string control;
    std::uint16_t tcp = 0; // 0: none
    std::string mssim;     // empty: none
    std::uint16_t mssim_tcp = 0;
};

/// The event loop: one process, one thread, every socket of every instance. What is decided is decided by the machines
/// and streams; here bytes are moved. Nothing that a client does can make it wait.
class Server {
public:
    enum class End { kInterrupted, kTerminated, kEngineDied };

    /// Blocks SIGINT, SIGTERM and SIGHUP: they end run(). engine outlives the server.
    [[nodiscard]] static Opened<std::unique_ptr<Server>> open(const ServerOptions &options,
                                                              const TpmInformation &information, EngineLink &engine);
    ~Server();
    Server(const Server &) = delete;
    Server &operator=(const Server &) = delete;

    [[nodiscard]] const std::vector<Endpoints> &endpoints() const { return endpoints_; }
    [[nodiscard]] End run();

private:
    enum class Kind : std::uint8_t { kControl, kCommands, kMssimCommands, kMssimPlatform };

    struct Listener {
        ServeFd fd;
        Kind kind{};
        std::uint32_t instance = 0;
    };
    struct Connection {
        ServeFd fd;
        Kind kind{};
        std::uint32_t instance = 0;
        std::unique_ptr<ClientStream> stream;
        std::vector<std::uint8_t> in;
        std::vector<std::uint8_t> out;
        std::size_t out_at = 0;
        ServeFd passed;       // a descriptor that came along and was not asked about yet
        bool waiting = false; // for the reply to its request
        bool more = false;    // what was received may hold another request
        bool ended = false;   // nothing more comes in
        bool closing = false; // when out is sent
    };
    struct Served {
        std::unique_ptr<ControlMachine> machine;
        std::shared_ptr<Waiter> waiter; // of this turn
        unsigned connections = 0;
    };
    using Id = ControlMachine::Client;

    explicit Server(EngineLink &engine) : engine_(engine) {}
    [[nodiscard]] std::optional<std::string> listen(const ServerOptions &options, const TpmInformation &information);
    void accept(const Listener &listener);
    [[nodiscard]] bool accept_one(const Listener &listener);
    void tell_refused(std::uint32_t instance, std::optional<uid_t> peer);
    Id add(ServeFd fd, Kind kind, std::uint32_t instance);
    void receive(Connection &connection);
    void advance(Id id, Connection &connection);
    void take_data_fd(Connection &connection, Request &request);
    void flush(Connection &connection);
    void deliver(std::uint32_t instance);
    void drop_finished();
    void tell_news();
    void look_after_workers();
    [[nodiscard]] std::optional<End> turn();

    EngineLink &engine_;
    ServeFd folder_;
    ServeFd signals_;
    ServeFd spare_; // given up for a moment to turn away who cannot be let in
    std::vector<Listener> listeners_;
    std::vector<Served> served_;
    std::vector<Endpoints> endpoints_;
    std::map<Id, Connection> connections_;
    std::vector<std::string> paths_; // to unlink
    std::set<std::optional<uid_t>> refused_;
    Id next_id_ = 1;
};

} // namespace banyan::vtpm
