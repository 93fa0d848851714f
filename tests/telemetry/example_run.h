/// A run small enough to work out by hand: two workers of 32 examples, quorum 1, policy `reuse`.
///
///   worker 0:  |--0 on v0--|--1 on v1--|--2 on v2 -------- lost at the end
///   worker 1:  |--0 on v0 ------|--1 on v1 ---| (dropped)
///   updates:               v1          v2
#pragma once

#include <vector>

#include "lategrad/node/run_event.h"

namespace lategrad {

inline Time at(double s) {
    return Time{} + from_seconds(s);
}

inline std::vector<RunEvent> example_run() {
    const WorkerId w0{0}, w1{1};
    return {
        {at(0), JoinEvent{w0, 32}},
        {at(0), JoinEvent{w1, 32}},
        {at(0), AssignEvent{w0, Step{0}, Version{0}}},
        {at(0), AssignEvent{w1, Step{0}, Version{0}}},
        {at(1), ArriveEvent{w0, Step{0}, Version{0}, Fate::apply, Reason::fresh, 2.0, 0.9}},
        {at(1), UpdateEvent{.version = Version{0},
                            .applied = {{w0, Step{0}, Version{0}, 32, 1}},
                            .denominator = 64,
                            .learning_rate = 0.1,
                            .loss = 2.0,
                            .examples_applied = 32,
                            .bytes_received = 4096,
                            .bytes_sent = 8192}},
        {at(1), AssignEvent{w0, Step{1}, Version{1}}},
        {at(1.5), ArriveEvent{w1, Step{0}, Version{0}, Fate::hold, Reason::late, 2.5, 1.4}},
        {at(1.5), AssignEvent{w1, Step{1}, Version{1}}},
        {at(2), ArriveEvent{w0, Step{1}, Version{1}, Fate::apply, Reason::fresh, 1.5, 0.9}},
        {at(2), UpdateEvent{.version = Version{1},
                            .applied = {{w0, Step{1}, Version{1}, 32, 1}, {w1, Step{0}, Version{0}, 32, 0.5}},
                            .denominator = 64,
                            .learning_rate = 0.1,
                            .loss = 2.0,
                            .examples_applied = 96,
                            .bytes_received = 12288,
                            .bytes_sent = 2 << 20}},
        {at(2), AssignEvent{w0, Step{2}, Version{2}}},
        {at(2.25), Evaluation{Version{1}, at(1), 32, 1.75, 0.5}},
        {at(2.5), ArriveEvent{w1, Step{1}, Version{1}, Fate::drop, Reason::not_finite, 2.25, 0.9}},
        {at(3), LostEvent{w0, Step{2}, Reason::run_ended}},
        {at(3), EndEvent{Outcome::updates}},
        {at(3.5), Evaluation{Version{2}, at(2), 96, 1.5, 0.375}},
    };
}

} // namespace lategrad
