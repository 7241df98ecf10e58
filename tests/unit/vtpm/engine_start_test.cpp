// SPDX-License-Identifier: GPL-2.0-or-later
// What the engine's program is started with, seen by a program in its place.
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>
#include <string>

#include <gtest/gtest.h>

#include "vtpm/link/engine_link.hpp"

namespace banyan::vtpm::testing {
namespace {

class TheEnginesProgram : public ::testing::Test {
protected:
    void SetUp() override
    {
        if (const char *set = std::getenv(kTunables)) {
            users = set;
        }
        std::string name = (std::filesystem::temp_directory_path() / "banyan-engine-XXXXXX").string();
        ASSERT_NE(::mkdtemp(name.data()), nullptr);
        folder = name;
        std::ofstream(folder / "engine") << "#!/bin/sh\nenv > " << (folder / "environment")
                                         << "\nprintf '%s\\n' \"$0\" \"$@\" > " << (folder / "words") << "\n";
        std::filesystem::permissions(folder / "engine", std::filesystem::perms::owner_all);
        options.engine = (folder / "engine").string();
        options.instances = 3;
    }
    void TearDown() override
    {
        if (users) {
            ::setenv(kTunables, users->c_str(), 1);
        } else {
            ::unsetenv(kTunables);
        }
        ::unsetenv("BANYAN_TEST_VARIABLE");
        std::filesystem::remove_all(folder);
    }
    /// Runs it; it never greets.
    std::string ran()
    {
        std::string why;
        EXPECT_FALSE(EngineLink::start(options, why));
        return why;
    }
    std::string seen(const char *file) const
    {
        std::ostringstream text;
        text << std::ifstream(folder / file).rdbuf();
        return text.str();
    }

    static constexpr const char *kTunables = "GLIBC_TUNABLES";
    std::optional<std::string> users;
    std::filesystem::path folder;
    EngineLink::Options options;
};

TEST_F(TheEnginesProgram, HasNoRestartableSequences)
{
    ::unsetenv(kTunables);
    EXPECT_EQ(ran(), "the vTPM engine " + options.engine + " did not come up");
    EXPECT_NE(("\n" + seen("environment")).find("\nGLIBC_TUNABLES=glibc.pthread.rseq=0\n"), std::string::npos)
        << seen("environment");
}

TEST_F(TheEnginesProgram, KeepsTheEnvironment)
{
    ::setenv(kTunables, "glibc.malloc.perturb=85", 1);
    ::setenv("BANYAN_TEST_VARIABLE", "of the user", 1);
    (void)ran();
    const std::string environment = "\n" + seen("environment");
    EXPECT_NE(environment.find("\nGLIBC_TUNABLES=glibc.malloc.perturb=85:glibc.pthread.rseq=0\n"), std::string::npos)
        << environment;
    EXPECT_NE(environment.find("\nBANYAN_TEST_VARIABLE=of the user\n"), std::string::npos) << environment;
}

TEST_F(TheEnginesProgram, IsToldWhatWasAskedFor)
{
    (void)ran();
    EXPECT_EQ(seen("words"), options.engine + "\nzygote\n--instances\n3\n");
    options.platform = "a platform";
    options.accept_rollback = true;
    options.full_sandbox = true;
    options.snapshot_key = "key";
    options.incoming = true;
    (void)ran();
    EXPECT_EQ(seen("words"), options.engine + "\nzygote\n--instances\n3\n--platform\na platform\n--rollback\nreport\n"
                                              "--require-sandbox\nfull\n--snapshot-key\nkey\n--incoming\nyes\n");
}

TEST_F(TheEnginesProgram, ThatIsNotThereIsNamed)
{
    options.engine = (folder / "none").string();
    EXPECT_EQ(ran(), "cannot start the vTPM engine " + options.engine + ": No such file or directory");
}

} // namespace
} // namespace banyan::vtpm::testing
