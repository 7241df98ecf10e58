// SPDX-License-Identifier: GPL-2.0-or-later
// Prints what operations through the C ABI cost, in microseconds of host time. Not a test: vtpm_figures [ROUNDS].
#include <algorithm>
#include <cstdio>

#include "tests/unit/vtpm/processes.hpp"
#include "tests/unit/vtpm/vtpm_machine.hpp"

namespace banyan::vtpm::testing {
namespace {

double now_us()
{
    return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

template <typename What>
void figure(const char *name, int rounds, What what)
{
    std::vector<double> samples;
    for (int i = 0; i < rounds; ++i) {
        const double begun = now_us();
        what(i);
        samples.push_back(now_us() - begun);
    }
    std::sort(samples.begin(), samples.end());
    const auto at = [&](double part) {
        return samples[static_cast<std::size_t>(part * static_cast<double>(samples.size() - 1))];
    };
    std::printf("{\"figure\":\"%s\",\"unit\":\"us\",\"samples\":%zu,\"median\":%.1f,\"p90\":%.1f,\"max\":%.1f}\n", name,
                samples.size(), at(0.5), at(0.9), at(1.0));
}

/// Doorbell to response, without the bytes in and out.
double doorbell(Guest &guest, const Bytes &command)
{
    guest.put(0, command);
    const double begun = now_us();
    guest.go(0);
    while (!tis::Sts::DataAvail::get(guest.read(0, tis::Reg::kSts))) {
    }
    const double spent = now_us() - begun;
    (void)guest.take(0);
    guest.write(0, tis::Reg::kSts, tis::Sts::CommandReady::kMask, 1);
    return spent;
}

void doorbells(const char *name, Guest &guest, int rounds, const Bytes &command)
{
    std::vector<double> samples;
    for (int i = 0; i < rounds; ++i) {
        samples.push_back(doorbell(guest, command));
    }
    std::sort(samples.begin(), samples.end());
    std::printf("{\"figure\":\"%s\",\"unit\":\"us\",\"samples\":%d,\"median\":%.1f,\"p90\":%.1f,\"max\":%.1f}\n", name,
                rounds, samples[samples.size() / 2], samples[samples.size() * 9 / 10], samples.back());
}

long private_kb(pid_t pid)
{
    std::ifstream file("/proc/" + std::to_string(pid) + "/smaps_rollup");
    std::string word;
    long total = 0;
    while (file >> word) {
        if (word == "Private_Clean:" || word == "Private_Dirty:") {
            long kb = 0;
            file >> kb;
            total += kb;
        }
    }
    return total;
}

/// There are two machines: the newer one's zygote is the last.
pid_t newest_worker_of(const std::vector<pid_t> &zygotes)
{
    pid_t worker = -1;
    for (const pid_t child : zygotes.empty() ? std::vector<pid_t>{} : children_of(zygotes.back())) {
        worker = name_of_process(child) == "vtpm-worker" ? child : worker;
    }
    return worker;
}

/// From the kill of an idle worker to the response of the next command that is executed.
void comebacks(int rounds)
{
    Machine machine;
    Guest guest(machine.vtpm);
    std::vector<double> samples;
    for (int i = 0; i < rounds; ++i) {
        if (i % 15 == 0) { // more deaths in one power cycle would park it
            (void)machine.power(0);
        }
        const pid_t worker = newest_worker_of(children_of(::getpid()));
        const std::string restarted = "\"restarts\":" + std::to_string(i + 1);
        if (worker <= 1) {
            std::fprintf(stderr, "no worker to end\n");
            return;
        }
        const double begun = now_us();
        (void)::kill(worker, SIGKILL);
        bool back = false;
        while (!back) { // the command that meets the dying worker fails
            const bool done = code_of(guest.command(get_random(4))) == 0;
            samples.resize(static_cast<std::size_t>(i));
            samples.push_back(now_us() - begun);
            back = done && machine.json().find(restarted) != std::string::npos;
        }
    }
    std::sort(samples.begin(), samples.end());
    std::printf("{\"figure\":\"killed_worker_to_answer\",\"unit\":\"us\",\"samples\":%zu,\"median\":%.1f,\"p99\":%.1f,"
                "\"max\":%.1f}\n",
                samples.size(), samples[samples.size() / 2], samples[samples.size() * 99 / 100], samples.back());
}

void run(int rounds)
{
    figure("create_and_destroy", 5, [](int) { const Machine machine; });
    Machine machine({.instances = 64});
    (void)machine.power(0); // made now
    figure("power_cycle_to_ready", std::min(rounds, 50), [&](int) {
        (void)banyan_vtpm_power_on(machine.vtpm, 0);
        while (banyan_vtpm_instance_state(machine.vtpm, 0) == BANYAN_VTPM_STARTING) {
        }
    });
    Guest guest(machine.vtpm);
    (void)guest.request(0);
    doorbells("doorbell_pcr_read", guest, rounds, pcr_read(16));
    doorbells("doorbell_pcr_extend", guest, rounds, pcr_extend(16, 1));
    doorbells("doorbell_get_random", guest, rounds, get_random(32));
    figure("register_read", rounds * 100, [&](int) { (void)guest.read(0, tis::Reg::kSts); });
    guest.relinquish(0);
    const Bytes block(60000, 0x11);
    figure("launch_60000_bytes", std::min(rounds, 50), [&](int) { (void)machine.launch(0, block); });
    comebacks(std::min(rounds, 300));
    figure("make_and_power_on", 63, [&](int i) { (void)machine.power(static_cast<std::uint32_t>(i + 1)); });
    std::vector<long> sizes;
    for (const pid_t worker : workers()) {
        sizes.push_back(private_kb(worker));
    }
    std::sort(sizes.begin(), sizes.end());
    std::printf("{\"figure\":\"worker_private\",\"unit\":\"KiB\",\"samples\":%zu,\"median\":%ld,\"max\":%ld}\n",
                sizes.size(), sizes[sizes.size() / 2], sizes.back());
}

} // namespace
} // namespace banyan::vtpm::testing

int main(int argc, char **argv)
{
    banyan::vtpm::testing::run(argc > 1 ? std::atoi(argv[1]) : 2000);
    return 0;
}
