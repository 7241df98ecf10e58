// SPDX-License-Identifier: GPL-2.0-or-later
// Drives N TPMs of one side and says what it measured. Started by scripts/bench, which takes the sides in turn.
//
//   vtpm_load ours|swtpm|libtpms N OPERATION FOLDER ENGINE
//
// OPERATION extend, quote: brings N TPMs up, prints "ready", then for each line "go SECONDS" on its input runs the
// command on all of them at once, a thread each, and prints the commands per second.
// OPERATION create: for each line "go" makes the next TPM and prints the microseconds to its first answer (ours: to both
// endorsement keys read).
// OPERATION alive: brings N up, has each answer twice and prints how many did.
#include <atomic>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <thread>

#include "tests/bench/vtpm_load/commands.hpp"
#include "tests/bench/vtpm_load/side.hpp"

namespace banyan::bench {

void give_up(const std::string &why)
{
    std::fprintf(stderr, "vtpm_load: %s\n", why.c_str());
    std::exit(3);
}

namespace {

struct Wanted {
    std::string side;
    unsigned count;
    std::string operation;
    std::string folder;
    std::string engine;
};

std::unique_ptr<Side> make(const Wanted &wanted)
{
    if (wanted.side == "ours") {
        return make_ours(wanted.engine, wanted.folder == "-" ? "" : wanted.folder, wanted.count);
    }
    return wanted.side == "swtpm" ? make_swtpm(wanted.folder, wanted.count) : make_libtpms(wanted.count);
}

/// Commands per second of all together.
double run(Side &side, unsigned count, const Bytes &command, double seconds)
{
    std::atomic<unsigned> waiting{0};
    std::atomic<bool> go{false};
    std::atomic<bool> stop{false};
    std::vector<unsigned long> done(count);
    std::vector<std::thread> threads;
    for (unsigned i = 0; i < count; ++i) {
        threads.emplace_back([&, i] {
            ++waiting;
            go.wait(false);
            unsigned long mine = 0;
            while (!stop.load(std::memory_order_relaxed)) {
                if (code_of(side.command(i, command)) != 0) {
                    give_up("a command failed");
                }
                ++mine;
            }
            done[i] = mine;
        });
    }
    while (waiting < count) {
        std::this_thread::yield();
    }
    const double begun = now_us();
    go = true;
    go.notify_all();
    std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
    stop = true;
    for (std::thread &thread : threads) {
        thread.join();
    }
    const double spent = now_us() - begun;
    unsigned long all = 0;
    for (const unsigned long mine : done) {
        all += mine;
    }
    return static_cast<double>(all) / spent * 1e6;
}

void throughput(Side &side, const Wanted &wanted)
{
    const bool quotes = wanted.operation == "quote";
    for (unsigned i = 0; i < wanted.count; ++i) {
        side.start(i);
        if (quotes && code_of(side.command(i, create_signing_key())) != 0) {
            give_up("a signing key cannot be made");
        }
    }
    const Bytes command = quotes ? quote() : pcr_extend();
    (void)run(side, wanted.count, command, 0.05);
    std::puts("ready");
    std::fflush(stdout);
    std::string word;
    double seconds = 0;
    while (std::cin >> word >> seconds) {
        std::printf("%.1f\n", run(side, wanted.count, command, seconds));
        std::fflush(stdout);
    }
}

void create(Side &side, const Wanted &wanted)
{
    std::puts("ready");
    std::fflush(stdout);
    std::string word;
    for (unsigned i = 0; i < wanted.count && std::cin >> word; ++i) {
        const double begun = now_us();
        side.start(i);
        if (wanted.side == "ours") {
            for (const std::uint32_t handle : {0x81010001U, 0x81010016U}) {
                if (code_of(side.command(i, read_public(handle))) != 0) {
                    give_up("an endorsement key cannot be read");
                }
            }
        }
        std::printf("%.1f\n", now_us() - begun);
        std::fflush(stdout);
    }
}

void alive(Side &side, const Wanted &wanted)
{
    unsigned good = 0;
    for (unsigned i = 0; i < wanted.count; ++i) {
        side.start(i);
        if (code_of(side.command(i, get_random(32))) != 0) {
            give_up("an instance does not answer");
        }
    }
    for (unsigned i = 0; i < wanted.count; ++i) {
        good += code_of(side.command(i, pcr_extend())) == 0 && code_of(side.command(i, get_random(32))) == 0 ? 1 : 0;
    }
    std::printf("%u\n", good);
}

} // namespace
} // namespace banyan::bench

int main(int argc, char **argv)
{
    using namespace banyan::bench;
    if (argc != 6) {
        std::fputs("usage: vtpm_load ours|swtpm|libtpms N extend|quote|create|alive FOLDER ENGINE\n", stderr);
        return 2;
    }
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::signal(SIGPIPE, SIG_IGN);
    rlimit files{};
    ::getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &files);
    const Wanted wanted{argv[1], static_cast<unsigned>(std::atoi(argv[2])), argv[3], argv[4], argv[5]};
    const auto side = make(wanted);
    if (wanted.operation == "create") {
        create(*side, wanted);
    } else if (wanted.operation == "alive") {
        alive(*side, wanted);
    } else {
        throughput(*side, wanted);
    }
    return 0;
}
