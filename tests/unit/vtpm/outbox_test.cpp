// SPDX-License-Identifier: GPL-2.0-or-later
#include "vtpm/engine/outbox.hpp"

#include <array>
#include <linux/sockios.h>
#include <memory>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <thread>
#include <unistd.h>
#include <vector>

#include <gtest/gtest.h>

#include "vtpm/link/engine_link.hpp"

namespace banyan::vtpm {
namespace {

struct Message {
    int what;
    int number;
    std::array<char, 200> text;
};

class AnOutbox : public ::testing::Test {
protected:
    AnOutbox()
    {
        int ends[2];
        EXPECT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
        near = ends[0];
        far = ends[1];
        const int small = 4096;
        EXPECT_EQ(::setsockopt(near, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)), 0);
        outbox = std::make_unique<Outbox<Message>>(near);
    }
    ~AnOutbox() override
    {
        ::close(near);
        ::close(far);
    }
    AnOutbox(const AnOutbox &) = delete;
    AnOutbox &operator=(const AnOutbox &) = delete;

    void notice(int what, int number)
    {
        outbox->notice({what, number, {}}, [&](const Message &earlier) { return earlier.what == what; });
    }
    std::vector<int> read_all()
    {
        std::vector<int> numbers;
        Message message;
        while (::recv(far, &message, sizeof(message), MSG_DONTWAIT) == static_cast<ssize_t>(sizeof(message))) {
            numbers.push_back(message.number);
            outbox->flush();
        }
        return numbers;
    }

    int near = -1;
    int far = -1;
    std::unique_ptr<Outbox<Message>> outbox;
};

TEST_F(AnOutbox, LosesNoAnswerHoweverManyTheSocketHasNoRoomFor)
{
    std::vector<int> said;
    for (int i = 0; i < 1000; ++i) {
        outbox->answer({1, i, {}});
        said.push_back(i);
    }
    ASSERT_TRUE(outbox->waiting()) << "it was full";
    EXPECT_EQ(read_all(), said);
    EXPECT_FALSE(outbox->waiting());
}

TEST_F(AnOutbox, HasOneNoticeOfAKindWaitAndThatIsTheLast)
{
    int answers = 0;
    while (!outbox->waiting()) {
        outbox->answer({0, answers++, {}});
    }
    for (int i = 0; i < 1000; ++i) {
        notice(1, 10000 + i);
        notice(2, 20000 + i);
    }
    const std::vector<int> heard = read_all();
    ASSERT_EQ(heard.size(), static_cast<std::size_t>(answers) + 2);
    EXPECT_EQ(heard[heard.size() - 2], 10999);
    EXPECT_EQ(heard.back(), 20999);
    notice(1, 3);
    notice(1, 4);
    EXPECT_EQ(read_all(), (std::vector<int>{3, 4})) << "with room for them, all";
}

TEST_F(AnOutbox, KeepsNothingForOneWhoHasGone)
{
    while (!outbox->waiting()) {
        outbox->answer({0, 0, {}});
    }
    ::close(far);
    outbox->flush();
    EXPECT_FALSE(outbox->waiting());
    outbox->answer({0, 1, {}});
    EXPECT_FALSE(outbox->waiting());
}

TEST(AnErase, IsAnsweredHoweverManyAreAskedForBeforeAnybodyListens)
{
    constexpr std::uint32_t kInstances = kMaxInstances;
    std::string why;
    EngineLink::Options options;
    options.engine = BANYAN_TEST_ENGINE;
    options.instances = kInstances;
    const auto engine = EngineLink::start(options, why);
    ASSERT_TRUE(engine.has_value()) << why;
    std::vector<std::unique_ptr<InstanceLink>> instances;
    for (std::uint32_t i = 0; i < kInstances; ++i) {
        instances.push_back((*engine)->instance(i));
        Status asked = fail(Errc::kBusy);
        while (!asked && asked.error() == Errc::kBusy) { // the way there is full, too
            asked = instances.back()->erase();
            std::this_thread::yield();
        }
        ASSERT_TRUE(asked);
    }
    int unread = 0;
    for (int i = 0; i < 2000 && unread < 40000; ++i) { // until the way back is full, with any luck
        ASSERT_EQ(::ioctl((*engine)->news(), SIOCINQ, &unread), 0);
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    for (std::uint32_t i = 0; i < kInstances; ++i) {
        for (int look = 0; look < 20000 && !instances[i]->erased(); ++look) {
            std::this_thread::sleep_for(std::chrono::microseconds(500));
        }
        ASSERT_TRUE(instances[i]->erased()) << i;
    }
}

} // namespace
} // namespace banyan::vtpm
