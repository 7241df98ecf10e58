// SPDX-License-Identifier: GPL-2.0-or-later
// `banyan verify` and `banyan platform` as a user calls them: exit status, table, JSON, and what they say when they refuse.

#include <array>
#include <cstdio>
#include <sys/wait.h>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/unit/attest/machine.hpp"
#include "tests/unit/tool/fixture.hpp"

namespace banyan::attest::testing {

namespace fs = std::filesystem;

class Command : public ::testing::Test {
protected:
    struct Run {
        int status;
        std::string output; // both streams
    };

    static void SetUpTestSuite()
    {
        build_ = new tool::test::BuildFolder;
        machine_ = new Machine(Machine::make(build_->path(), 3));
        stranger_ = new Machine(Machine::make(build_->path() / "stranger", 1));
        build_->put("machine.toml", tool::test::kTwoVms);
    }
    static void TearDownTestSuite()
    {
        delete stranger_;
        delete machine_;
        delete build_;
    }

    void SetUp() override
    {
        fs::remove_all(evidence());
        const tool::Machine machine = build_->machine(tool::test::kTwoVms);
        const auto references = tool::references(machine);
        ASSERT_TRUE(references) << references.error();
        for (const VmReference &reference : *references) {
            const Bytes slb = take(read_slb_measured(machine.vms.front().loader));
            VmRun run = plan_run(*machine_, reference, slb, Bytes(32, static_cast<std::uint8_t>(reference.domain)));
            spoil(run);
            write_evidence(evidence() / reference.name, collect(*machine_, run));
            write_owner(evidence() / "owner", reference.name, owner_record(*machine_, run));
        }
    }
    virtual void spoil(VmRun & /*run*/) {}

    static Run banyan(const std::string &arguments)
    {
        const std::string command =
            "BANYAN_BUILD_DIR='" + build_->path().string() + "' " BANYAN_COMMAND " " + arguments + " 2>&1";
        Run run{-1, {}};
        FILE *pipe = ::popen(command.c_str(), "r");
        std::array<char, 4096> piece{};
        for (std::size_t got = 0; (got = std::fread(piece.data(), 1, piece.size(), pipe)) > 0;) {
            run.output.append(piece.data(), got);
        }
        const int status = ::pclose(pipe);
        run.status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
        return run;
    }

    static fs::path evidence() { return build_->path() / "evidence"; }
    static fs::path trust() { return machine_->public_folder() / "manufacturer.pem"; }
    static Run verify(const fs::path &anchor, const std::string &more = "")
    {
        return banyan("verify --evidence " + evidence().string() + " --machine " + build_->file().string() +
                      " --trust " + anchor.string() + " " + more);
    }

    static void expect(const Run &run, int status, const std::vector<std::string> &words)
    {
        EXPECT_EQ(run.status, status) << run.output;
        for (const std::string &word : words) {
            EXPECT_NE(run.output.find(word), std::string::npos) << "\"" << word << "\" is not in: " << run.output;
        }
    }

    static tool::test::BuildFolder *build_;
    static Machine *machine_;
    static Machine *stranger_;
};
tool::test::BuildFolder *Command::build_ = nullptr;
Machine *Command::machine_ = nullptr;
Machine *Command::stranger_ = nullptr;

TEST_F(Command, AttestsAndShowsATable)
{
    const Run run = verify(trust());
    expect(run, 0, {"VM     domain  kernel", "alpha  1 ", "beta   2 ", "debian:cloud-amd64", "attested"});
    EXPECT_EQ(run.output.find("refused"), std::string::npos);
}

TEST_F(Command, WritesJson)
{
    const fs::path file = build_->path() / "out.json";
    expect(verify(trust(), "--json " + file.string()), 0, {"attested"});
    const auto json = nlohmann::json::parse(take(read_file(file, 1 << 20)));
    EXPECT_EQ(json.at("schema"), 1);
    EXPECT_EQ(json.at("verdict"), "attested");
    ASSERT_EQ(json.at("vms").size(), 2U);
    const auto &vm = json.at("vms").at(0);
    EXPECT_EQ(vm.at("name"), "alpha");
    EXPECT_EQ(vm.at("verdict"), "attested");
    EXPECT_EQ(vm.at("reason"), "");
    EXPECT_EQ(vm.at("pcrs"), vm.at("expected"));
    EXPECT_EQ(vm.at("pcrs").at("sha384").size(), 24U);
    EXPECT_EQ(vm.at("pcrs").at("sha256").at("17").get<std::string>().size(), 64U);
    const Run bare = verify(trust(), "--json -");
    EXPECT_EQ(nlohmann::json::parse(bare.output), json);
}

TEST_F(Command, NamesTheFileThatIsNotWhatRan)
{
    const fs::path kernel = build_->path() / "images/amd64/vmlinuz";
    const std::string before = to_hex(take(digest_file(kernel)).sha256);
    build_->put("images/amd64/vmlinuz", "kernel of amd65");
    const Run run = verify(trust());
    const std::string after = to_hex(take(digest_file(kernel)).sha256);
    build_->put("images/amd64/vmlinuz", "kernel of amd64");
    expect(run, 1, {"refused (pcr)", "alpha: PCR 17", "event 2", "\"kernel\"", kernel.string(), before, after});
    expect(verify(trust()), 0, {});
}

TEST_F(Command, NamesTheCommandLineThatIsNotWhatRan)
{
    std::string text(tool::test::kTwoVms);
    text.replace(text.find("quiet"), 5, "qui3t");
    build_->put("machine.toml", text);
    const Run run = verify(trust());
    build_->put("machine.toml", tool::test::kTwoVms);
    expect(run, 1, {"beta: PCR 17", "event 4", "command_line of \"beta\""});
}

TEST_F(Command, RefusesAnotherManufacturer)
{
    expect(verify(stranger_->public_folder() / "manufacturer.pem"), 1,
           {"refused (chain)", "does not lead to a trusted root"});
}

TEST_F(Command, DoesNotReadAPrivateFolder)
{
    expect(verify(machine_->private_folder() / "ca/root.crt"), 2, {"private folder", "must not read there"});
    expect(verify(trust(), "--owner " + machine_->private_folder().string()), 2, {"private folder"});
    const Run run = banyan("verify --evidence " + machine_->private_folder().string() + " --machine " +
                           build_->file().string() + " --trust " + trust().string());
    expect(run, 2, {"private folder"});
}

TEST_F(Command, TakesNoPrivateKeyForATrustAnchor)
{
    const fs::path file = build_->path() / "both.pem";
    fs::copy_file(trust(), file, fs::copy_options::overwrite_existing);
    const Bytes key = take(read_file(machine_->private_folder() / "ca/root.key", 4096));
    std::ofstream(file, std::ios::app) << text_of(key);
    expect(verify(file), 2, {"private key"});
    expect(verify(machine_->public_folder() / "chain.pem"), 2, {"is not a root"});
    expect(verify(build_->put("empty.pem", "")), 2, {"no certificate"});
    expect(verify(build_->path() / "none.pem"), 3, {"No such file"});
}

TEST_F(Command, TakesTheOwnersRecordsFromElsewhere)
{
    const fs::path elsewhere = build_->path() / "records";
    fs::remove_all(elsewhere);
    fs::rename(evidence() / "owner", elsewhere);
    expect(verify(trust()), 3, {"owner/chain.pem", "--owner"});
    expect(verify(trust(), "--owner " + elsewhere.string()), 0, {"attested"});
}

TEST_F(Command, EndsWithTwoForWhatIsWrittenWrongly)
{
    expect(verify(trust(), "--accept dma-drain"), 2, {"insecure:NAME"});
    expect(verify(trust(), "--frobnicate"), 2, {});
    expect(banyan("verify"), 2, {});
    build_->put("machine.toml", "schema = \n");
    expect(verify(trust()), 2, {"machine.toml:1:"});
    build_->put("machine.toml", tool::test::kTwoVms);
    expect(banyan("platform new " + (build_->path() / "p").string() + " --instances 0"), 2, {});
}

TEST_F(Command, RefusesAVmThatGaveNothing)
{
    fs::remove_all(evidence() / "beta");
    expect(verify(trust()), 1, {"refused (files)", "beta: ", "gave no evidence"});
}

class WeakenedCommand : public Command {
    void spoil(VmRun &run) override { run.report.insecure = run.receipt.insecure = {"dma-drain"}; }
};

TEST_F(WeakenedCommand, IsAcceptedByNameOnly)
{
    expect(verify(trust()), 1, {"refused (receipt)", "insecure:dma-drain"});
    expect(verify(trust(), "--accept insecure:debug"), 1, {"insecure:dma-drain"});
    expect(verify(trust(), "--accept insecure:debug --accept insecure:dma-drain"), 0, {"attested"});
}

TEST_F(Command, MakesAndShowsAPlatform)
{
    const std::string place = (build_->path() / "made").string();
    expect(banyan("platform new " + place + "/ --instances 2"), 0, {place, "made-public/manufacturer.pem"});
    expect(banyan("platform show " + place + "-public"), 0, {"class:     machine", "instances: 2", "SHA-256"});
    expect(banyan("platform show " + place), 2, {"private folder"});
    expect(banyan("platform new " + place), 3, {"never overwritten"});
    expect(banyan("platform show " + evidence().string()), 3, {"No such file"});
}

} // namespace banyan::attest::testing
