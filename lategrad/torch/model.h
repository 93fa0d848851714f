/// Models: which network, what its tensors are called and where they lie in the flat vectors.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lategrad/data/dataset.h"

namespace lategrad {

/// What `--model` says:
/// - `lenet`: conv 20@5×5, max pool 2, ReLU, conv 50@5×5, max pool 2, ReLU, linear 500, ReLU, linear to the outputs,
///   the network of LeCun et al. 1998 as Caffe has it. Images of 16×16 and more.
/// - `mlp:H1,H2,…`: linear layers of these widths with ReLU between them; `mlp` is `mlp:800,500`.
/// - `logistic`: one linear layer.
/// - `ridge:ETA`: one linear layer without bias, starting at 0, on (1/m)·(‖Xw − y‖² + ETA·‖w‖²), m the training rows;
///   `ridge` is `ridge:1`.
/// - a TorchScript module: a file that ends in `.pt`.
struct ModelSpec {
    enum class Kind { lenet, mlp, logistic, ridge, script };

    std::string text; ///< as given
    Kind kind = Kind::lenet;
    std::vector<std::int64_t> hidden; ///< mlp
    double eta = 1;                   ///< ridge
    std::filesystem::path file;       ///< script

    /// Throws InputError naming `--model` and the forms there are. Does not look at files.
    static ModelSpec parse(std::string_view text);
};

/// Where one tensor of the model lies in the flat vectors.
struct FlatTensor {
    std::string name; ///< as libtorch names it: "conv1.weight"
    std::vector<std::int64_t> shape;
    std::size_t first = 0;    ///< floats before it
    std::size_t elements = 0; ///< product of shape
    bool trainable = true;    ///< false: a buffer, such as BatchNorm's running mean
};

/// A network made for a data set. A classifier returns logits and is trained on mean cross-entropy; on regression data
/// a network returns one number per example and is trained on the mean squared error (`ridge`: see ModelSpec).
///
/// The flat vectors hold its trainable parameters, then its float32 buffers. Parameters that need no gradient stay
/// local, equal in every process because they come from the model's file; integer buffers too, but each worker may
/// count in its own (hidden_state).
class Model {
  public:
    ~Model();
    Model(const Model&) = delete;
    Model& operator=(const Model&) = delete;

    const ModelSpec& spec() const { return spec_; }
    std::size_t trainable() const { return trainable_; }
    std::size_t size() const { return size_; }
    const std::vector<FlatTensor>& tensors() const { return tensors_; } ///< in flat order, without gaps

    /// REQUIRES: out.size() == size().
    void initial_parameters(std::span<float> out) const;

    /// What a gradient depends on besides parameters and batch, so that a run cannot be replayed; empty for nothing.
    /// - libtorch's random generator (dropout), which is the process's: such a model is repeatable only with one worker
    ///   per process;
    /// - integer buffers that it counts in (BatchNorm with momentum=None), which each worker has for itself.
    std::string hidden_state() const;

    class Network; ///< what libtorch computes; for this folder only
    Network& network() const { return *network_; }

  private:
    friend std::unique_ptr<Model> make_model(const ModelSpec&, const Dataset&, std::uint64_t);
    Model(ModelSpec spec, std::unique_ptr<Network> network);

    ModelSpec spec_;
    std::unique_ptr<Network> network_;
    std::vector<FlatTensor> tensors_;
    std::size_t trainable_ = 0;
    std::size_t size_ = 0;
};

/// The same seed gives the same initial parameters in every process; a TorchScript module brings its own. Seeds
/// libtorch's random generator. Throws InputError naming `--model` and `--data` where the two do not fit.
std::unique_ptr<Model> make_model(const ModelSpec& spec, const Dataset& train, std::uint64_t seed);

} // namespace lategrad
