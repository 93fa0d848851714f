#include "lategrad/core/archive.h"
#include "lategrad/wire/message.h"

namespace lategrad {

void persist(Archive& archive, Message& message) {
    archive.enumerator(message.type, MessageType::refuse);
    archive(message.worker, message.incarnation, message.run, message.step, message.version, message.examples,
            message.data.part, message.data.position, message.process, message.elements, message.loss,
            message.compute_seconds, message.cancels, message.refunds, message.step_scale);
    archive.enumerator(message.fate, Fate::lost);
    archive.enumerator(message.reason, kLastReason);
    archive(message.payload);
}

} // namespace lategrad
