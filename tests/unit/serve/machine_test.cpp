// SPDX-License-Identifier: GPL-2.0-or-later
#include <gtest/gtest.h>

#include "tests/unit/vtpm/fake_link.hpp"
#include "vtpm/serve/control_machine.hpp"

namespace banyan::vtpm {
namespace {

using R = swtpm::Result;
using S = ServeState;
using E = ServeEvent;
using A = ServeAction;

TEST(ServePower, AnInitStartsFromEveryStateAndAStopEndsEveryOne)
{
    for (const S state : kServeStates) {
        EXPECT_EQ(step(state, E::kInit), (ServeStep{S::kStarting, A::kStart}));
        EXPECT_EQ(step(state, E::kStop), (ServeStep{S::kOff, state == S::kOff ? A::kIgnore : A::kStop}));
    }
}

TEST(ServePower, AFailedOneIsBroughtBackByNothingButAnInit)
{
    for (const S state : {S::kOff, S::kFailed}) {
        for (const E event : {E::kReady, E::kDied, E::kHopeless}) {
            EXPECT_EQ(step(state, event), (ServeStep{state, A::kIgnore}));
        }
    }
}

TEST(ServePower, AWorkerThatDiesIsRestoredWhenItHasServedAndStartedAgainBefore)
{
    EXPECT_EQ(step(S::kStarting, E::kDied), (ServeStep{S::kStarting, A::kStartAgain}));
    EXPECT_EQ(step(S::kOn, E::kDied), (ServeStep{S::kRecovering, A::kRestore}));
    EXPECT_EQ(step(S::kRecovering, E::kDied), (ServeStep{S::kRecovering, A::kRestore}));
    for (const S state : {S::kStarting, S::kOn, S::kRecovering}) {
        EXPECT_EQ(step(state, E::kHopeless), (ServeStep{S::kFailed, A::kFail}));
    }
    for (const S state : {S::kStarting, S::kRecovering}) {
        EXPECT_EQ(step(state, E::kReady), (ServeStep{S::kOn, A::kServe}));
    }
}

class Machine : public ::testing::Test {
protected:
    static Request make(Verb verb)
    {
        Request request;
        request.verb = verb;
        return request;
    }
    static Request command(std::uint8_t locality = 0)
    {
        Request request = make(Verb::kCommand);
        request.locality = locality;
        request.data = {0x80, 0x01, 0, 0, 0, 12, 0, 0, 0x01, 0x7b, 0, 8};
        return request;
    }
    ControlMachine &machine()
    {
        if (!machine_) {
            machine_ =
                std::make_unique<ControlMachine>(policy_, information_, std::make_unique<testing::FakeLink>(engine_));
        }
        return *machine_;
    }
    /// The reply that `client` has, which must be the next one.
    Reply next(ControlMachine::Client client)
    {
        const auto answer = machine().next_answer();
        EXPECT_TRUE(answer.has_value());
        if (!answer) {
            return {};
        }
        EXPECT_EQ(answer->client, client);
        return answer->reply;
    }
    Reply ask(Request request)
    {
        machine().request(1, std::move(request));
        machine().service();
        return next(1);
    }
    void switch_on() { ASSERT_EQ(ask(make(Verb::kInit)).result, R::kSuccess); }
    static std::uint32_t code(const Reply &reply)
    {
        return reply.data.size() < kTpmHeaderSize ? 0xffffffff : load_be32(reply.data, kTpmCodeAt);
    }

    ServePolicy policy_;
    TpmInformation information_{"{}", "one", "two", "three"};
    std::shared_ptr<testing::FakeEngine> engine_ = std::make_shared<testing::FakeEngine>();
    std::unique_ptr<ControlMachine> machine_;
};

TEST_F(Machine, SaysNothingOfATpmThatIsOff)
{
    for (const Verb verb : {Verb::kGetEstablished, Verb::kStoreVolatile}) {
        EXPECT_EQ(ask(make(verb)).result, R::kBadOrdinal);
    }
    EXPECT_EQ(code(ask(command())), static_cast<std::uint32_t>(TpmRc::kFailure));
    EXPECT_TRUE(engine_->requests.empty());
}

TEST_F(Machine, AnswersAnInitThatCannotBeWithAnError)
{
    engine_->start_works = false;
    EXPECT_EQ(ask(make(Verb::kInit)).result, R::kFail);
    EXPECT_EQ(machine().state(), S::kFailed);
}

TEST_F(Machine, GivesOneCommandAtATimeToTheWorker)
{
    switch_on();
    engine_->answers_at_once = false;
    machine().request(1, command());
    machine().request(2, command());
    EXPECT_EQ(engine_->requests.size(), 1U);
    EXPECT_FALSE(machine().next_answer());
    engine_->complete();
    machine().service();
    EXPECT_EQ(next(1).data, engine_->response);
    EXPECT_EQ(engine_->requests.size(), 2U);
    engine_->complete();
    machine().service();
    EXPECT_EQ(next(2).data, engine_->response);
}

TEST_F(Machine, RefusesWhatThePolicyDoesNotAllowBeforeTheWorkerSeesIt)
{
    switch_on();
    for (const Verb verb : {Verb::kHashStart, Verb::kHashData, Verb::kHashEnd, Verb::kGetState, Verb::kSetState}) {
        EXPECT_EQ(ask(make(verb)).result, R::kBadOrdinal);
    }
    for (const Verb verb : {Verb::kSetLocality, Verb::kResetEstablished}) {
        Request request = make(verb);
        request.locality = 4;
        EXPECT_EQ(ask(request).result, R::kBadLocality);
    }
    EXPECT_EQ(code(ask(command(4))), static_cast<std::uint32_t>(TpmRc::kLocality));
    EXPECT_TRUE(engine_->requests.empty());
    EXPECT_EQ(machine().counters().refused, 8U);
    EXPECT_EQ(ask(make(Verb::kGetCapability)).capabilities, 0x17cefU);
}

TEST_F(Machine, SendsACommandAtTheLocalityThatWasSetLast)
{
    switch_on();
    Request locality = make(Verb::kSetLocality);
    locality.locality = 3;
    EXPECT_EQ(ask(locality).result, R::kSuccess);
    Request plain = command();
    plain.locality.reset();
    (void)ask(plain);
    ASSERT_EQ(engine_->requests.size(), 1U);
    EXPECT_EQ(engine_->requests.back().locality, 3);
}

TEST_F(Machine, AHashStartEndsTheCommandThatRunsAndGoesBeforeWhatWaits)
{
    policy_.drtm_by_client = true;
    switch_on();
    engine_->answers_at_once = false;
    machine().request(1, command());
    machine().request(2, command());
    machine().request(3, make(Verb::kHashStart));
    EXPECT_EQ(engine_->cancels, 1);
    engine_->complete();
    machine().service();
    (void)next(1);
    ASSERT_EQ(engine_->requests.size(), 2U);
    EXPECT_EQ(engine_->requests.back().op, Op::kHashStart);
}

TEST_F(Machine, AWorkerThatDiesInAHashSequenceIsNotRestored)
{
    policy_.drtm_by_client = true;
    switch_on();
    EXPECT_EQ(ask(make(Verb::kHashStart)).result, R::kSuccess);
    engine_->health = Health::kDead;
    machine().service();
    EXPECT_EQ(machine().state(), S::kFailed);
    EXPECT_EQ(engine_->starts, (std::vector<bool>{false}));
    EXPECT_EQ(ask(make(Verb::kHashEnd)).result, R::kFail);
    EXPECT_EQ(ask(make(Verb::kInit)).result, R::kSuccess);
}

TEST_F(Machine, AStateIsNotStoredInTheMiddleOfAHashSequence)
{
    policy_.drtm_by_client = true;
    switch_on();
    EXPECT_EQ(ask(make(Verb::kHashStart)).result, R::kSuccess);
    EXPECT_EQ(ask(make(Verb::kStoreVolatile)).result, R::kFail);
    EXPECT_EQ(ask(make(Verb::kStop)).result, R::kSuccess);
    EXPECT_EQ(ask(make(Verb::kInit)).result, R::kSuccess);
    EXPECT_EQ(engine_->starts, (std::vector<bool>{false, false}));
}

TEST_F(Machine, AWorkerThatDiesOtherwiseIsRestoredAndItsCommandFails)
{
    switch_on();
    engine_->answers_at_once = false;
    machine().request(1, command());
    engine_->health = Health::kDead;
    machine().service();
    EXPECT_EQ(code(next(1)), static_cast<std::uint32_t>(TpmRc::kFailure));
    EXPECT_EQ(engine_->starts, (std::vector<bool>{false, true}));
    machine().service();
    EXPECT_EQ(machine().state(), S::kOn);
}

TEST_F(Machine, AWorkerThatDiesAgainAndAgainIsGivenUp)
{
    switch_on();
    for (int i = 0; i < 40; ++i) {
        engine_->health = Health::kDead;
        machine().service();
        machine().service();
    }
    EXPECT_EQ(machine().state(), S::kFailed);
    EXPECT_EQ(machine().counters().restarts, 16U);
}

TEST_F(Machine, AWorkerThatDiesInItsStartIsStartedAgainAndTheInitAnsweredOnce)
{
    engine_->started = Health::kBooting;
    machine().request(1, make(Verb::kInit));
    for (int death = 0; death < 16; ++death) {
        engine_->health = Health::kDead;
        machine().service();
        ASSERT_EQ(machine().state(), S::kStarting);
        EXPECT_FALSE(machine().next_answer());
    }
    engine_->health = Health::kReady;
    machine().service();
    EXPECT_EQ(next(1).result, R::kSuccess);
    EXPECT_EQ(engine_->starts, std::vector<bool>(17, false));
    EXPECT_EQ(machine().counters().restarts, 16U);
}

TEST_F(Machine, AWorkerThatKeepsDyingInItsStartIsGivenUp)
{
    engine_->started = Health::kDead;
    machine().request(1, make(Verb::kInit));
    for (int look = 0; look < 40; ++look) {
        machine().service();
    }
    EXPECT_EQ(next(1).result, R::kFail);
    EXPECT_EQ(machine().state(), S::kFailed);
    EXPECT_EQ(engine_->starts.size(), 17U);
}

TEST_F(Machine, AStartThatTheEngineRefusesIsNotTriedAgain)
{
    engine_->started = Health::kRefused;
    EXPECT_EQ(ask(make(Verb::kInit)).result, R::kFail);
    EXPECT_EQ(engine_->starts.size(), 1U);
    EXPECT_EQ(machine().counters().restarts, 0U);
}

TEST_F(Machine, AWorkerThatDiesWhileBlobsArePutInGetsAllOfThemAgain)
{
    policy_.state_export = true;
    Request blob = make(Verb::kSetState);
    blob.type = static_cast<std::uint32_t>(swtpm::BlobType::kPermanent);
    blob.first = true;
    blob.last = true;
    blob.data = ServeBytes(kTpmBufferSize + 100, 0x5a);
    ASSERT_EQ(ask(blob).result, R::kSuccess);
    engine_->answers_at_once = false;
    machine().request(1, make(Verb::kInit));
    for (const int done : {0, 1, 2}) { // of three: two parts, then they are adopted
        const std::size_t before = engine_->requests.size();
        for (int i = 0; i < done; ++i) {
            engine_->complete();
            machine().service();
        }
        ASSERT_EQ(engine_->requests.size(), before + static_cast<std::size_t>(done));
        engine_->health = Health::kDead;
        machine().service(); // it is seen, and started again
        machine().service();
        ASSERT_EQ(engine_->requests.back().op, Op::kWriteState);
        EXPECT_EQ(load_be32(engine_->requests.back().bytes, 4), 0U) << "from the first byte on";
        EXPECT_FALSE(machine().next_answer());
    }
    for (int i = 0; i < 3; ++i) {
        engine_->complete();
        machine().service();
    }
    EXPECT_EQ(engine_->requests.back().op, Op::kAdoptState);
    EXPECT_EQ(next(1).result, R::kSuccess);
    EXPECT_EQ(machine().state(), S::kOn);
    EXPECT_EQ(engine_->starts, std::vector<bool>(4, false));
}

TEST_F(Machine, AWorkerThatGivesUpOnABlobFailsTheInitAtOnce)
{
    policy_.state_export = true;
    Request blob = make(Verb::kSetState);
    blob.type = static_cast<std::uint32_t>(swtpm::BlobType::kPermanent);
    blob.data = ServeBytes(100, 0x5a);
    ASSERT_EQ(ask(blob).result, R::kSuccess);
    engine_->answers_at_once = false;
    machine().request(1, make(Verb::kInit));
    engine_->complete();
    machine().service();
    ASSERT_EQ(engine_->requests.back().op, Op::kAdoptState);
    engine_->health = Health::kDead;
    engine_->gave_up = true;
    machine().service();
    EXPECT_EQ(next(1).result, R::kFail);
    EXPECT_EQ(machine().state(), S::kFailed);
    EXPECT_EQ(engine_->starts, std::vector<bool>{false});
}

TEST_F(Machine, AnInitThatGoesOnFromAStoredLifeDoesSoAgainWhenItsWorkerDies)
{
    switch_on();
    EXPECT_EQ(ask(make(Verb::kStoreVolatile)).result, R::kSuccess);
    EXPECT_EQ(ask(make(Verb::kStop)).result, R::kSuccess);
    engine_->started = Health::kBooting;
    machine().request(1, make(Verb::kInit));
    engine_->health = Health::kDead;
    machine().service();
    engine_->health = Health::kReady;
    machine().service();
    EXPECT_EQ(next(1).result, R::kSuccess);
    EXPECT_EQ(engine_->starts, (std::vector<bool>{false, true, true}));
}

TEST_F(Machine, AClientThatHasGoneIsNotAnsweredAndItsNextRequestNotBegun)
{
    switch_on();
    engine_->answers_at_once = false;
    machine().request(1, command());
    machine().request(2, command());
    machine().request(3, command());
    machine().forget(1);
    machine().forget(2);
    engine_->complete();
    machine().service();
    EXPECT_EQ(engine_->requests.size(), 2U);
    engine_->complete();
    machine().service();
    EXPECT_EQ(next(0).data, engine_->response); // of nobody
    EXPECT_EQ(next(3).data, engine_->response);
    EXPECT_FALSE(machine().next_answer());
}

TEST_F(Machine, APowerOffAnswersWhoWaitsForTheWorker)
{
    switch_on();
    engine_->answers_at_once = false;
    machine().request(1, command());
    machine().request(2, command());
    machine().request(3, make(Verb::kStop));
    EXPECT_EQ(code(next(1)), static_cast<std::uint32_t>(TpmRc::kFailure));
    EXPECT_EQ(next(3).result, R::kSuccess);
    EXPECT_EQ(code(next(2)), static_cast<std::uint32_t>(TpmRc::kFailure));
    EXPECT_EQ(machine().state(), S::kOff);
}

TEST_F(Machine, PutsAWholeBlobInAndNoPartOfOne)
{
    policy_.state_export = true;
    Request blob = make(Verb::kSetState);
    blob.type = 1;
    blob.data = ServeBytes(4000, 7);
    blob.last = false;
    EXPECT_EQ(ask(blob).result, R::kSuccess);
    switch_on(); // the rest never came
    EXPECT_TRUE(engine_->requests.empty());
    EXPECT_EQ(ask(make(Verb::kStop)).result, R::kSuccess);

    EXPECT_EQ(ask(blob).result, R::kSuccess);
    blob.first = false;
    blob.last = true;
    EXPECT_EQ(ask(blob).result, R::kSuccess);
    machine().request(1, make(Verb::kInit));
    for (int i = 0; i < 8; ++i) {
        machine().service();
    }
    EXPECT_EQ(next(1).result, R::kSuccess);
    std::vector<Op> ops;
    std::size_t bytes = 0;
    for (const auto &one : engine_->requests) {
        ops.push_back(one.op);
        bytes += one.bytes.size();
    }
    EXPECT_EQ(ops, (std::vector{Op::kWriteState, Op::kWriteState, Op::kAdoptState}));
    EXPECT_EQ(bytes, 8000U + 2 * 8);
}

TEST_F(Machine, AShutdownLeavesNothingOfItsClientToTheNext)
{
    policy_.state_export = true;
    const auto set_up = [&] {
        Request size = make(Verb::kSetBufferSize);
        size.number = 3000;
        EXPECT_EQ(ask(size).buffer_size, 3000U);
        Request locality = make(Verb::kSetLocality);
        locality.locality = 2;
        EXPECT_EQ(ask(locality).result, R::kSuccess);
        Request blob = make(Verb::kSetState);
        blob.type = 1;
        blob.data = ServeBytes(100, 7);
        EXPECT_EQ(ask(blob).result, R::kSuccess);
    };
    set_up();
    EXPECT_EQ(ask(make(Verb::kStop)).result, R::kSuccess); // a power-off alone
    EXPECT_EQ(machine().locality(), 2);
    EXPECT_EQ(ask(make(Verb::kSetBufferSize)).buffer_size, 3000U);
    EXPECT_EQ(ask(make(Verb::kShutdown)).result, R::kSuccess);
    EXPECT_EQ(machine().locality(), 0);
    EXPECT_EQ(ask(make(Verb::kSetBufferSize)).buffer_size, kTpmBufferSize);
    switch_on();
    EXPECT_TRUE(engine_->requests.empty()); // the blob is not put in
}

TEST_F(Machine, TakesNoBlobThatIsTooLarge)
{
    policy_.state_export = true;
    Request blob = make(Verb::kSetState);
    blob.type = 2;
    blob.data = ServeBytes(4096, 7);
    blob.last = false;
    R result = R::kSuccess;
    for (int i = 0; i < 100; ++i) {
        result = ask(blob).result;
        blob.first = false;
    }
    EXPECT_EQ(result, R::kSize);
    blob.first = true;
    EXPECT_EQ(ask(blob).result, R::kSuccess);
}

TEST_F(Machine, AWorkerThatLiesAboutItsStateIsNotBelieved)
{
    policy_.state_export = true;
    switch_on();
    Request get = make(Verb::kGetState);
    get.type = 1;
    engine_->response = {0xff, 0xff, 0xff, 0xff, 1, 2, 3}; // 4 GiB are to come
    EXPECT_EQ(ask(get).result, R::kFail);
    engine_->response = {0, 0, 0, 9, 1, 2, 3}; // and then again 3 bytes, and 3 that are too many
    machine().request(1, get);
    for (int i = 0; i < 6; ++i) {
        machine().service();
    }
    const Reply reply = next(1);
    EXPECT_EQ(reply.total, 9U);
    EXPECT_EQ(reply.data.size(), 9U);
    engine_->response = {0, 0, 0, 9}; // nothing comes
    EXPECT_EQ(ask(get).result, R::kFail);
}

TEST_F(Machine, ShowsTheInformationThatWasAskedForFromTheOffsetOn)
{
    for (std::uint64_t flags = 0; flags < 4; ++flags) {
        Request info = make(Verb::kGetInfo);
        info.number = flags;
        const Reply all = ask(info);
        EXPECT_EQ(all.data, ServeBytes(information_[flags].c_str(),
                                       information_[flags].c_str() + information_[flags].size() + 1));
        info.offset = 2;
        EXPECT_EQ(ask(info).data, ServeBytes(all.data.begin() + 2, all.data.end()));
        info.offset = all.total;
        EXPECT_EQ(ask(info).result, R::kBadParameter);
    }
}

} // namespace
} // namespace banyan::vtpm
