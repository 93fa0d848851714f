#include "lategrad/core/archive.h"
#include "lategrad/node/node.h"

namespace lategrad {
namespace {

void item(Archive& archive, MessageArrived& event) {
    archive(event.peer);
    persist(archive, event.message);
    archive.enumerator(event.defect, kLastReason);
    archive(event.norm);
}
void item(Archive& archive, ComputeDone& event) {
    archive(event.step, event.payload, event.loss, event.compute_seconds, event.cancelled, event.failed);
}
void item(Archive&, UpdateDone&) {}
void item(Archive& archive, PeerLeft& event) {
    archive(event.peer);
}
void item(Archive& archive, PeerHeard& event) {
    archive(event.peer);
}
void item(Archive&, Timer&) {}
void item(Archive& archive, EvaluationDone& event) {
    Evaluation& result = event.result;
    archive(result.version, result.at, result.examples_applied, result.loss, result.accuracy);
}
void item(Archive&, StopRequested&) {}

template <std::size_t... kIndex>
void emplace(Event& event, std::size_t index, std::index_sequence<kIndex...>) {
    (void)((kIndex == index && (static_cast<void>(event.emplace<kIndex>()), true)) || ...);
}

} // namespace

void persist(Archive& archive, Event& event) {
    auto index = static_cast<std::uint8_t>(event.index());
    archive(index);
    archive.require(index < std::variant_size_v<Event>, "an event of no kind there is");
    if (archive.reading()) emplace(event, index, std::make_index_sequence<std::variant_size_v<Event>>());
    std::visit([&](auto& what) { item(archive, what); }, event);
}

void persist(Archive& archive, ComputeJob& job) {
    archive(job.step, job.version, job.data.part, job.data.position, job.params, job.grad, job.refund,
            job.residual_scale);
}

} // namespace lategrad
