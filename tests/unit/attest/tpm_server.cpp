// SPDX-License-Identifier: GPL-2.0-or-later
// usage: attest_tpm_server PRIVATE INSTANCE SLB EVENTLOG
//
// A vTPM after a launch, on standard input and output: for tpm2-tools with TPM2TOOLS_TCTI="cmd:attest_tpm_server ...".
// Each tool starts it anew; each time it goes through the same launch, which the event log describes.

#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <unistd.h>

#include "attest/event_log.hpp"
#include "tests/unit/attest/machine.hpp"
#include "vtpm/chip/tpm_header.hpp"

namespace banyan::attest::testing {

bool read_exactly(std::uint8_t *to, std::size_t size)
{
    for (std::size_t have = 0; have < size;) {
        const ssize_t got = ::read(STDIN_FILENO, to + have, size - have);
        if (got <= 0) {
            return false;
        }
        have += static_cast<std::size_t>(got);
    }
    return true;
}

void serve(const Scenario &scenario)
{
    Tpm tpm;
    play(tpm, scenario);
    for (;;) {
        Bytes command(vtpm::kTpmHeaderSize);
        if (!read_exactly(command.data(), command.size())) {
            return;
        }
        const std::size_t size = vtpm::load_be32(command, vtpm::kTpmSizeAt);
        if (size < command.size() || size > vtpm::kTpmBufferSize) {
            return;
        }
        command.resize(size);
        if (!read_exactly(command.data() + vtpm::kTpmHeaderSize, size - vtpm::kTpmHeaderSize)) {
            return;
        }
        const Bytes response = tpm.execute(0, command);
        if (::write(STDOUT_FILENO, response.data(), response.size()) != static_cast<ssize_t>(response.size())) {
            return;
        }
    }
}

} // namespace banyan::attest::testing

int main(int argc, char **argv)
try {
    using namespace banyan::attest;
    using namespace banyan::attest::testing;
    if (argc != 5) {
        throw std::runtime_error("usage: attest_tpm_server PRIVATE INSTANCE SLB EVENTLOG");
    }
    const std::filesystem::path secret = argv[1];
    const Machine machine(secret, secret.parent_path() / "public");
    Scenario scenario;
    scenario.permanent = machine.permanent(static_cast<unsigned>(std::strtoul(argv[2], nullptr, 10)));
    scenario.slb = take(read_file(argv[3], 1 << 16));
    const EventLog log = take(parse_event_log(take(read_file(argv[4], 1 << 16))));
    for (std::size_t i = 1; i < log.events.size(); ++i) {
        Extension one{log.events[i].pcr, {}};
        const auto copy = [&](Bank bank, auto &to) {
            const Bytes &digest = log.events[i].digests.at(bank);
            std::copy(digest.begin(), digest.end(), to.begin());
        };
        copy(Bank::kSha1, one.digests.sha1);
        copy(Bank::kSha256, one.digests.sha256);
        copy(Bank::kSha384, one.digests.sha384);
        scenario.after_launch.push_back(one);
    }
    serve(scenario);
    return 0;
} catch (const std::exception &error) {
    std::fprintf(stderr, "attest_tpm_server: %s\n", error.what());
    return 1;
}
