// SPDX-License-Identifier: GPL-2.0-or-later
#include <fmt/format.h>

#include "tests/unit/tool/fixture.hpp"

namespace banyan::tool {
namespace {

using test::BuildFolder;
using test::kTwoVms;

class MachineFile : public ::testing::Test {
protected:
    /// The message, without the folder's name, of a text that must be refused with `exit`.
    std::string refusal(std::string_view text, Exit exit = Exit::kUsage)
    {
        auto machine = build_.parse(text);
        if (machine) {
            ADD_FAILURE() << "accepted: " << text;
            return {};
        }
        EXPECT_EQ(machine.error().exit, exit) << machine.error().text;
        std::string message = machine.error().text;
        const std::string folder = build_.path().string() + "/";
        for (std::size_t at = message.find(folder); at != std::string::npos; at = message.find(folder)) {
            message.erase(at, folder.size());
        }
        return message;
    }

    static std::string vm_with(std::string_view lines)
    {
        return fmt::format("schema = 1\n[[vm]]\nname = \"a\"\nkernel = \"debian:amd64\"\n{}\n", lines);
    }

    BuildFolder build_;
};

TEST_F(MachineFile, FillsInWhatItDoesNotSay)
{
    const Machine machine = build_.machine(kTwoVms);
    EXPECT_EQ(machine.name, "machine");
    EXPECT_EQ(machine.cores, 3u);
    ASSERT_EQ(machine.vms.size(), 2u);
    const MachineVm &alpha = machine.vms[0];
    EXPECT_EQ(alpha.name, "alpha");
    EXPECT_EQ(alpha.memory, 384u << 20);
    EXPECT_EQ(alpha.kernel_label, "debian:amd64");
    EXPECT_EQ(alpha.kernel, build_.path() / "images/amd64/vmlinuz");
    EXPECT_EQ(alpha.initrd, build_.path() / "share/banyan/initrd-amd64.img");
    EXPECT_EQ(alpha.command_line, "console=hvc0 tsc_early_khz=1000000 reboot=a panic=-1 no_ipi_broadcast=1");
    EXPECT_EQ(alpha.on_reboot, OnReboot::kStop);
    EXPECT_EQ(machine.vms[1].initrd, build_.path() / "share/banyan/initrd-cloud-amd64.img");
    EXPECT_EQ(machine.vms[1].memory, 1u << 30);
    EXPECT_EQ(machine.vms[1].command_line, "quiet");
}

TEST_F(MachineFile, TakesPathsRelativeToItself)
{
    build_.put("my/kernel", "k");
    build_.put("my/initrd", "i");
    const Machine machine = build_.machine(R"(schema = 1
[machine]
name = "m"
platform = "keys"
accept_insecure = ["debug"]
hash_rate = 0
[[vm]]
name = "a"
kernel = "my/kernel"
initrd = "my/initrd"
on_reboot = "restart"
tpms = 9
)");
    EXPECT_EQ(machine.name, "m");
    EXPECT_EQ(machine.platform_private, build_.path() / "keys/private");
    EXPECT_EQ(machine.platform_public, build_.path() / "keys/public");
    EXPECT_EQ(machine.accept_insecure, std::vector<std::string>{"debug"});
    EXPECT_EQ(machine.hash_rate, 0u);
    ASSERT_EQ(machine.vms.size(), 1u);
    EXPECT_EQ(machine.vms[0].kernel, build_.path() / "my/kernel");
    EXPECT_EQ(machine.vms[0].on_reboot, OnReboot::kRestart);
    EXPECT_EQ(machine.vms[0].tpms, std::vector<MachineTpm>(9));
}

TEST_F(MachineFile, SaysWhereItIsNotToml)
{
    EXPECT_EQ(refusal("schema = 1\n[[vm]\n").substr(0, 27), "machine.toml:2:6: not TOML:");
    EXPECT_EQ(refusal("schema = 1\nname = \"open\nnext\n").substr(0, 15), "machine.toml:2:");
}

TEST_F(MachineFile, WantsItsSchema)
{
    EXPECT_EQ(refusal("[[vm]]\nname = \"a\"\n"),
              "machine.toml:1:1: schema is missing; write \"schema = 1\" at the top");
    EXPECT_EQ(refusal("schema = 2\n"), "machine.toml:1:10: schema 2 is not known; this program reads schema 1");
}

TEST_F(MachineFile, RefusesUnknownKeysWithTheirPlace)
{
    EXPECT_EQ(refusal(vm_with("colour = 3")).substr(0, 56),
              "machine.toml:5:1: unknown key \"colour\" in [[vm]]; known ");
    EXPECT_EQ(refusal("schema = 1\nvms = []\n"),
              "machine.toml:2:1: unknown key \"vms\" in the file; known are schema, machine, vm");
    EXPECT_EQ(refusal("schema = 1\n[machine]\n  core = 1\n").substr(0, 43),
              "machine.toml:3:3: unknown key \"core\" in [ma");
}

TEST_F(MachineFile, AVmHasOneToNineTpms)
{
    EXPECT_EQ(refusal(vm_with("tpms = 0")), "machine.toml:5:8: tpms = 0 is outside 1 to 9");
    EXPECT_EQ(refusal(vm_with("tpms = 10")), "machine.toml:5:8: tpms = 10 is outside 1 to 9");
}

TEST_F(MachineFile, ATpmLooksAsItsKeysSay)
{
    const Machine one = build_.machine(vm_with("interface = \"crb\"\nbanks = [\"sha384\", \"sha256\"]\n"
                                               "did_vid = 0xfffffffe"));
    EXPECT_EQ(one.vms[0].tpms,
              (std::vector<MachineTpm>{
                  {.crb = true, .banks = {attest::Bank::kSha384, attest::Bank::kSha256}, .did_vid = 0xFFFF'FFFE}}));
    const Machine plain = build_.machine(vm_with("interface = \"fifo\""));
    EXPECT_EQ(plain.vms[0].tpms, std::vector<MachineTpm>(1));
    const std::string_view further = "did_vid = 1\n[[vm.further_tpm]]\n[[vm.further_tpm]]\nbanks = [\"sha1\"]\n"
                                     "interface = \"fifo\"\ndid_vid = 2\n";
    const std::vector<MachineTpm> three{
        {.crb = false, .banks = {}, .did_vid = 1}, {}, {.crb = false, .banks = {attest::Bank::kSha1}, .did_vid = 2}};
    EXPECT_EQ(build_.machine(vm_with(further)).vms[0].tpms, three);
    std::vector<MachineTpm> five = three;
    five.resize(5);
    EXPECT_EQ(build_.machine(vm_with(fmt::format("tpms = 5\n{}", further))).vms[0].tpms, five);
}

TEST_F(MachineFile, RefusesTpmsThatThereAreNot)
{
    EXPECT_EQ(refusal(vm_with("interface = \"tis\"")),
              "machine.toml:5:13: interface must be \"fifo\" or \"crb\", not \"tis\"");
    EXPECT_EQ(refusal(vm_with("interface = 1")), "machine.toml:5:13: interface must be a string, not an integer");
    for (const char *value : {"0", "0xffffffff", "0x100000000"}) {
        EXPECT_NE(refusal(vm_with(fmt::format("did_vid = {}", value))).find("must be from 1 to 0xfffffffe"),
                  std::string::npos)
            << value;
    }
    EXPECT_EQ(refusal(vm_with("did_vid = -1")), "machine.toml:5:11: did_vid must be an integer of 0 or more");
    EXPECT_EQ(refusal(vm_with("banks = [\"sha256\", \"sha512\"]")),
              "machine.toml:5:20: banks holds \"sha1\", \"sha256\" and \"sha384\"; the TPM has no others");
    EXPECT_EQ(refusal(vm_with("banks = [256]")),
              "machine.toml:5:10: banks holds \"sha1\", \"sha256\" and \"sha384\"; the TPM has no others");
    EXPECT_EQ(refusal(vm_with("banks = [\"sha256\", \"sha384\", \"sha256\"]")),
              "machine.toml:5:30: banks names \"sha256\" twice");
    for (const char *value : {"[]", "\"sha256\"", "3"}) {
        EXPECT_EQ(refusal(vm_with(fmt::format("banks = {}", value))),
                  "machine.toml:5:9: banks must be an array of \"sha1\", \"sha256\" and \"sha384\", with one at least");
    }
}

TEST_F(MachineFile, TheFirstTpmHasTheBanksThatEvidenceQuotes)
{
    EXPECT_EQ(
        refusal(vm_with("banks = [\"sha1\", \"sha256\"]")),
        "machine.toml:5:9: banks without \"sha384\": evidence quotes the banks \"sha256\" and \"sha384\" of a VM's "
        "first TPM, so this VM could not attest; add it");
    EXPECT_NE(refusal(vm_with("banks = [\"sha384\"]")).find("banks without \"sha256\""), std::string::npos);
}

TEST_F(MachineFile, RefusesFurtherTpmsThatCannotBe)
{
    EXPECT_EQ(refusal(vm_with("further_tpm = 2")),
              "machine.toml:5:15: further_tpm must be an array of tables ([[vm.further_tpm]]), not an integer");
    EXPECT_EQ(refusal(vm_with("further_tpm = [1]")),
              "machine.toml:5:16: a further TPM must be a table ([[vm.further_tpm]]), not an integer");
    EXPECT_EQ(refusal(vm_with("[[vm.further_tpm]]\nirq = 5")),
              "machine.toml:6:1: unknown key \"irq\" in [[vm.further_tpm]]; known are interface, banks, did_vid");
    EXPECT_EQ(refusal(vm_with("[[vm.further_tpm]]\ninterface = \"crb\"")),
              "machine.toml:6:13: a further TPM is a \"fifo\": the one TPM2 table of ACPI names one CRB's address, the "
              "first's");
    std::string nine;
    for (unsigned i = 0; i < 9; ++i) {
        nine += "[[vm.further_tpm]]\n";
    }
    EXPECT_NE(refusal(vm_with(nine)).find("9 further TPMs are more than the 8 that a VM can have"), std::string::npos);
    EXPECT_EQ(
        refusal(vm_with("tpms = 1\n[[vm.further_tpm]]")),
        "machine.toml:5:8: tpms = 1, but there are 2 with those in [[vm.further_tpm]]; raise tpms or leave it out");
}

TEST_F(MachineFile, ACrbIsAlone)
{
    for (const char *more : {"tpms = 2", "[[vm.further_tpm]]"}) {
        EXPECT_EQ(refusal(vm_with(fmt::format("interface = \"crb\"\n{}", more))),
                  "machine.toml:5:13: a VM whose TPM is a \"crb\" has it alone: Linux numbers a FIFO before a CRB, so "
                  "/dev/tpm0 would not be the launch's; write \"fifo\", or leave out tpms and further_tpm");
    }
}

TEST_F(MachineFile, RefusesWrongTypesWithTheirPlace)
{
    EXPECT_EQ(refusal("schema = 1\n[[vm]]\nname = 7\n"), "machine.toml:3:8: name must be a string, not an integer");
    EXPECT_EQ(refusal(vm_with("memory = 384")), "machine.toml:5:10: memory must be a string, not an integer");
    EXPECT_EQ(refusal("schema = 1\nvm = 3\n"),
              "machine.toml:2:6: vm must be an array of tables ([[vm]]), not an integer");
    EXPECT_EQ(refusal("schema = 1\nmachine = 3\n"),
              "machine.toml:2:11: machine must be a table ([machine]), not an integer");
    EXPECT_EQ(refusal("schema = 1\n[machine]\nhash_rate = -1\n"),
              "machine.toml:3:13: hash_rate must be an integer of 0 or more");
}

TEST_F(MachineFile, WantsNamesThatAreNames)
{
    EXPECT_EQ(refusal("schema = 1\n[[vm]]\nkernel = \"debian:amd64\"\n"),
              "machine.toml:2:1: the VM has no name; add name = \"…\"");
    for (const char *name :
         {"", "A", "a_b", "-a", "a/b", "..", "owner", "consoles", "a234567890123456789012345678901x"}) {
        EXPECT_EQ(
            refusal(fmt::format("schema = 1\n[[vm]]\nname = \"{}\"\nkernel = \"debian:amd64\"\n", name)).substr(0, 18),
            "machine.toml:3:8: ")
            << name;
    }
    EXPECT_EQ(refusal("schema = 1\n[[vm]]\nname = \"a\"\nkernel = \"debian:amd64\"\n[[vm]]\nname = \"a\"\n"),
              "machine.toml:6:8: two VMs are called \"a\"; give each its own name");
}

TEST_F(MachineFile, WantsAtLeastOneVmAndAtMostTheTableHolds)
{
    EXPECT_EQ(refusal("schema = 1\n"), "machine.toml:1:1: there is no VM; add a [[vm]] section");
    std::string text = "schema = 1\n";
    for (int i = 0; i < 16; ++i) {
        text += fmt::format("[[vm]]\nname = \"v{}\"\nkernel = \"debian:amd64\"\n", i);
    }
    EXPECT_NE(refusal(text).find("16 VMs are more than the 15 that a domain table holds"), std::string::npos);
}

TEST_F(MachineFile, RefusesMoreVmsThanCores)
{
    const std::string vms(kTwoVms.substr(11));
    EXPECT_EQ(
        refusal("schema = 1\n[machine]\ncores = 2\n" + vms),
        "machine.toml:3:9: 2 VMs need 3 cores, one each and core 0 for the hypervisor, but cores = 2; raise cores or "
        "remove VMs");
    EXPECT_EQ(refusal("schema = 1\n[machine]\ncores = 65\n" + vms), "machine.toml:3:9: cores = 65 is outside 2 to 64");
    EXPECT_EQ(build_.machine("schema = 1\n[machine]\ncores = 8\n" + vms).cores, 8u);
}

TEST_F(MachineFile, RefusesMemoryThatIsNoSizeOrTooSmall)
{
    for (const char *size : {"", "M", "384", "384MB", "-1M", "1.5G", "384m", "99999999M"}) {
        EXPECT_NE(refusal(vm_with(fmt::format("memory = \"{}\"", size))).find("is not a size"), std::string::npos)
            << size;
    }
    EXPECT_EQ(refusal(vm_with("memory = \"128M\"")), "machine.toml:5:10: memory \"128M\" is outside 256M to 2048M");
    EXPECT_EQ(refusal(vm_with("memory = \"3G\"")), "machine.toml:5:10: memory \"3G\" is outside 256M to 2048M");
}

TEST_F(MachineFile, RefusesOverlappingMemory)
{
    const std::string text = R"(schema = 1
[[vm]]
name = "a"
kernel = "debian:amd64"
base = 0x100000000
[[vm]]
name = "b"
kernel = "debian:amd64"
base = 0x117e00000
)";
    EXPECT_EQ(refusal(text),
              "machine.toml:9:8: the memory of VM \"b\" (0x117e00000 to 0x12fe00000) overlaps that of VM "
              "\"a\" (0x100000000 to 0x118000000); move it, or leave base out");
    EXPECT_EQ(refusal(vm_with("base = 0x1000")).substr(0, 31), "machine.toml:5:8: base 0x1000 m");
    EXPECT_EQ(refusal(vm_with("base = 0x100001000")).substr(0, 17), "machine.toml:5:8:");
}

TEST_F(MachineFile, NamesAMissingFile)
{
    EXPECT_EQ(refusal("schema = 1\n[[vm]]\nname = \"a\"\nkernel = \"no/such\"\n", Exit::kEnvironment),
              "machine.toml:4:10: cannot read the kernel no/such: there is no such file; correct kernel in the machine "
              "file");
    EXPECT_EQ(
        refusal("schema = 1\n[[vm]]\nname = \"a\"\nkernel = \"images\"\n", Exit::kEnvironment),
        "machine.toml:4:10: cannot read the kernel images: it is not a regular file; correct kernel in the machine "
        "file");
    EXPECT_NE(refusal("schema = 1\n[[vm]]\nname = \"a\"\nkernel = \"debian:arm64\"\n", Exit::kEnvironment)
                  .find("images/arm64/vmlinuz"),
              std::string::npos);
    EXPECT_EQ(refusal(vm_with("initrd = \"gone\""), Exit::kEnvironment).substr(0, 44),
              "machine.toml:5:10: cannot read the initrd go");
    std::filesystem::remove(build_.path() / "share/banyan/loader.slb");
    EXPECT_NE(refusal(kTwoVms, Exit::kEnvironment).find("cannot read the secure loader share/banyan/loader.slb"),
              std::string::npos);
}

TEST_F(MachineFile, WantsAnInitrdWithAKernelOfTheUsers)
{
    build_.put("kernel", "k");
    EXPECT_NE(refusal("schema = 1\n[[vm]]\nname = \"a\"\nkernel = \"kernel\"\n").find("name an initrd file too"),
              std::string::npos);
}

TEST_F(MachineFile, RefusesCommandLinesThatLinuxWouldNotTake)
{
    EXPECT_NE(refusal(vm_with("command_line = \"a\\nb\"")).find("one line"), std::string::npos);
    EXPECT_NE(refusal(vm_with(fmt::format("command_line = \"{}\"", std::string(2048, 'x')))).find("at most 2047"),
              std::string::npos);
    EXPECT_NE(refusal(vm_with("command_line = \"a\\u0000b\"")).find("NUL"), std::string::npos);
}

TEST_F(MachineFile, IsAUsageErrorWhenItIsNotThere)
{
    const auto machine = read_machine(build_.path() / "none.toml", build_.places());
    ASSERT_FALSE(machine);
    EXPECT_EQ(machine.error().exit, Exit::kUsage);
    EXPECT_NE(machine.error().text.find("none.toml: No such file"), std::string::npos);
    EXPECT_FALSE(read_machine(build_.path(), build_.places()));
}

TEST_F(MachineFile, ExamplesAreRight)
{
    for (const char *name : {"one-vm", "two-vms", "four-vms"}) {
        const std::filesystem::path file =
            std::filesystem::path(BANYAN_SOURCE_DIR) / "docs/examples" / (name + std::string(".toml"));
        const auto machine = read_machine(file, build_.places());
        EXPECT_TRUE(machine) << (machine ? "" : machine.error().text);
    }
}

} // namespace
} // namespace banyan::tool
