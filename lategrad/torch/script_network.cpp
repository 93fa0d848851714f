#include <algorithm>
#include <map>

#include <fmt/format.h>
#include <torch/csrc/jit/passes/inliner.h>
#include <torch/csrc/jit/python/update_graph_executor_opt.h>

#include "lategrad/core/error.h"
#include "lategrad/torch/libtorch.h"
#include "lategrad/torch/network.h"

namespace lategrad {

namespace {

[[noreturn]] void refuse(const ModelSpec& spec, const std::string& why) {
    throw InputError(fmt::format("--model {}: {}", spec.text, why));
}

bool is_random(const torch::jit::Block* block) {
    return std::any_of(block->nodes().begin(), block->nodes().end(), [](const torch::jit::Node* node) {
        return node->isNondeterministic() || std::any_of(node->blocks().begin(), node->blocks().end(), is_random);
    });
}

/// A script's graph as it stands. The optimising executor first profiles and then rewrites it, so that the bits of a
/// gradient would depend on how many came before.
class PlainExecution {
  public:
    PlainExecution() : before_(torch::jit::getGraphExecutorOptimize()) { torch::jit::setGraphExecutorOptimize(false); }
    ~PlainExecution() { torch::jit::setGraphExecutorOptimize(before_); }
    PlainExecution(const PlainExecution&) = delete;
    PlainExecution& operator=(const PlainExecution&) = delete;

  private:
    bool before_;
};

class ScriptNetwork final : public Model::Network {
  public:
    ScriptNetwork(const Dataset& train, torch::jit::Module module) : Network(train), module_(std::move(module)) {
        train.gather(std::vector<std::uint32_t>{0, train.size() > 1 ? 1u : 0u}, two_examples_);
    }

    torch::Tensor forward(const torch::Tensor& features) override {
        const PlainExecution plain;
        return module_.forward({features}).toTensor();
    }
    void train(bool on) override { module_.train(on); }
    NamedTensors parameters() const override {
        NamedTensors tensors;
        for (const auto& item : module_.named_parameters())
            if (item.value.requires_grad()) tensors.emplace_back(item.name, item.value);
        return tensors;
    }
    NamedTensors buffers() const override {
        NamedTensors tensors;
        for (const auto& item : module_.named_buffers())
            if (item.value.scalar_type() == torch::kFloat32) tensors.emplace_back(item.name, item.value);
        return tensors;
    }
    std::string hidden_state() const override {
        const auto graph = module_.get_method("forward").graph()->copy();
        torch::jit::Inline(*graph);
        if (is_random(graph->block())) return "draws random numbers (dropout)";
        return counts_matter() ? "counts its steps in an integer buffer (as BatchNorm with momentum=None does)" : "";
    }

    /// To try a module on.
    const Batch& two_examples() const { return two_examples_; }

  private:
    /// What an integer buffer holds changes what is computed.
    bool counts_matter() const {
        const auto once = forward_with_counts(0), later = forward_with_counts(1);
        return !std::equal(once.begin(), once.end(), later.begin(), later.end(),
                           [](const torch::Tensor& a, const torch::Tensor& b) { return a.equal(b); });
    }

    /// The bits of the output and of the float buffers after one forward in training, with all integer buffers moved
    /// on; nothing where there are none. On a copy.
    std::vector<torch::Tensor> forward_with_counts(std::int64_t moved) const {
        const torch::NoGradGuard no_grad;
        ScriptNetwork copy(*this);
        copy.module_ = module_.deepcopy();
        bool counts = false;
        for (const auto& item : copy.module_.named_buffers()) {
            if (item.value.is_floating_point() || item.value.is_complex()) continue;
            if (item.value.scalar_type() != torch::kBool) item.value.add_(moved);
            counts = true;
        }
        if (!counts) return {};
        copy.train(true);
        std::vector<torch::Tensor> bits{copy.forward(features(two_examples_))};
        for (const auto& [name, tensor] : copy.buffers()) bits.push_back(tensor);
        return bits;
    }

    torch::jit::Module module_;
    Batch two_examples_;
};

torch::jit::Module load(const ModelSpec& spec) {
    std::error_code error;
    if (!std::filesystem::is_regular_file(spec.file, error)) refuse(spec, "there is no such file");
    try {
        return torch::jit::load(spec.file.string());
    } catch (const std::exception& failure) {
        refuse(spec,
               fmt::format("not a TorchScript module, as torch.jit.script(net).save(…) writes: {}", one_line(failure)));
    }
}

void check_tensors(const ModelSpec& spec, const torch::jit::Module& module) {
    std::map<const void*, std::string> names;
    const auto check = [&](const char* kind, const std::string& name, const torch::Tensor& tensor) {
        if (!tensor.is_floating_point() && !tensor.is_complex()) return;
        if (tensor.scalar_type() != torch::kFloat32 || tensor.layout() != torch::kStrided || !tensor.is_cpu())
            refuse(spec, fmt::format("the {} {} is {} and not float32 on the CPU; save net.float().cpu()", kind, name,
                                     tensor.toString()));
        if (tensor.numel() == 0) return;
        const auto [other, is_new] = names.emplace(tensor.data_ptr(), name);
        if (!is_new)
            refuse(spec, fmt::format("{} and {} share their memory; tied parameters cannot be trained here",
                                     other->second, name));
    };
    bool any = false;
    for (const auto& item : module.named_parameters()) {
        check("parameter", item.name, item.value);
        any |= item.value.requires_grad() && item.value.numel() > 0;
    }
    if (!any) refuse(spec, "has no parameters to train");
    for (const auto& item : module.named_buffers()) check("buffer", item.name, item.value);
}

/// One gradient of two examples, on a copy.
void try_on_data(const ModelSpec& spec, const Dataset& train, const torch::jit::Module& module) {
    const auto misfit = [&](const std::string& why) {
        refuse(spec,
               fmt::format("does not fit --data, examples of shape {} with {}: {}", shape_text(train.shape()),
                           train.classes() > 0 ? fmt::format("{} classes", train.classes()) : "a number each", why));
    };
    if (!module.find_method("forward")) refuse(spec, "has no method forward");

    auto copy = module.deepcopy();
    const auto outcome = [&]() -> std::string {
        try {
            const PlainExecution plain;
            ScriptNetwork network(train, copy);
            const Batch& batch = network.two_examples();
            network.train(true);
            const auto before = module.named_parameters();
            const auto output = copy.forward({network.features(batch)});
            if (!output.isTensor()) return fmt::format("forward returns {} and not a tensor", output.tagKind());
            const auto sizes = output.toTensor().sizes().vec();
            if (train.classes() == 0 && output.toTensor().numel() != 2)
                return fmt::format("for 2 examples it returns the shape {}, needed is one number each",
                                   shape_text(sizes));
            if (train.classes() > 0 && (sizes.size() != 2 || sizes[0] != 2 || sizes[1] < train.classes()))
                return fmt::format("for 2 examples it returns the shape {}, needed is (2, {})", shape_text(sizes),
                                   train.classes());
            network.data_loss(output.toTensor(), batch).backward();
            auto original = before.begin();
            for (const auto& item : copy.named_parameters())
                if (!item.value.equal((*original++).value)) return "forward changes the parameter " + item.name;
            return {};
        } catch (const std::exception& failure) {
            return one_line(failure);
        }
    }();
    if (!outcome.empty()) misfit(outcome);
}

} // namespace

std::unique_ptr<Model::Network> make_script_network(const ModelSpec& spec, const Dataset& train) {
    torch::jit::Module module = load(spec);
    check_tensors(spec, module);
    try_on_data(spec, train, module);
    return std::make_unique<ScriptNetwork>(train, std::move(module));
}

} // namespace lategrad
