// What libtorch can do and tch does not reach: a node of the autograd graph whose backward pass is a
// Rust closure, and loops on libtorch's own thread pool. No arithmetic happens here.

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/functions/utils.h>

#include <cstring>
#include <stdexcept>
#include <string>

using torch::autograd::variable_list;

namespace {

// Takes the gradients of the outputs (null where there is none) and which inputs want one; fills in
// the gradients of the inputs, owned by the caller. Consumes the closure. Returns null, or a message
// to be released with `release_message`.
using Backward = char* (*)(void* closure, const at::Tensor* const* gradients, size_t n_gradients,
                           const bool* wanted, at::Tensor** results, size_t n_results);
using Drop = void (*)(void* closure);
using ReleaseMessage = void (*)(char*);

struct ClosureNode final : torch::autograd::Node {
  void* closure;
  Backward backward;
  Drop drop;
  ReleaseMessage release_message;
  std::string label;

  ~ClosureNode() override { release_variables(); }

  // The engine calls this once the node has run; what the closure saved is freed then.
  void release_variables() override {
    if (closure != nullptr) drop(closure);
    closure = nullptr;
  }

  std::string name() const override { return label; }

  variable_list apply(variable_list&& gradients) override {
    TORCH_CHECK(closure != nullptr, "the backward pass of ", label, " has run already");
    std::vector<const at::Tensor*> given;
    for (const auto& gradient : gradients) given.push_back(gradient.defined() ? &gradient : nullptr);
    const size_t n = num_outputs();
    std::unique_ptr<bool[]> wanted(new bool[n]);
    for (size_t i = 0; i < n; ++i) wanted[i] = task_should_compute_output(i);
    std::vector<at::Tensor*> results(n, nullptr);
    char* message = backward(std::exchange(closure, nullptr), given.data(), given.size(),
                             wanted.get(), results.data(), n);
    variable_list out(n);
    for (size_t i = 0; i < n; ++i) {
      if (results[i] == nullptr) continue;
      out[i] = std::move(*results[i]);
      delete results[i];
    }
    if (message != nullptr) {
      const std::string text = label + ": " + message;
      release_message(message);
      throw std::runtime_error(text);
    }
    return out;
  }
};

char* copy_of(const char* text) { return strdup(text); }

}  // namespace

extern "C" {

// Makes `outputs` the results of a node over `inputs`, unless no gradient is wanted. Owns the
// closure either way. Returns null, or a message to be released with `free`.
char* neutral_attach(const char* label, const at::Tensor* const* inputs, size_t n_inputs,
                     at::Tensor* const* outputs, size_t n_outputs, void* closure,
                     Backward backward, Drop drop, ReleaseMessage release_message) {
  try {
    variable_list sources;
    bool tracked = false;
    for (size_t i = 0; i < n_inputs; ++i) {
      sources.push_back(*inputs[i]);
      tracked = tracked || inputs[i]->requires_grad();
    }
    if (!tracked || !at::GradMode::is_enabled()) {
      drop(closure);
      return nullptr;
    }
    auto node = c10::make_intrusive<ClosureNode>();
    node->closure = closure;
    node->backward = backward;
    node->drop = drop;
    node->release_message = release_message;
    node->label = label;
    node->set_next_edges(torch::autograd::collect_next_edges(sources));
    for (size_t i = 0; i < n_outputs; ++i) torch::autograd::set_history(*outputs[i], node);
    return nullptr;
  } catch (const std::exception& error) {
    return copy_of(error.what());
  }
}

void neutral_free_message(char* message) { free(message); }

// `body(context, begin, end)` over disjoint ranges that cover 0..n, on libtorch's threads. The body
// must not unwind.
void neutral_parallel_for(int64_t n, int64_t grain, void (*body)(void*, int64_t, int64_t),
                          void* context) {
  at::parallel_for(0, n, grain,
                   [=](int64_t begin, int64_t end) { body(context, begin, end); });
}

// libtorch's switches for CUDA, as neutral wants them. Sums of bf16 products stay in fp32 to their end. And cuDNN,
// which would come first on some GPUs, plans attention anew for each new length, as every token written has.
void neutral_set_up_cuda() {
  at::globalContext().setAllowBF16ReductionCuBLAS(/*allow_reduced_precision=*/false);
  at::globalContext().setSDPUseCuDNN(false);
}

}  // extern "C"
