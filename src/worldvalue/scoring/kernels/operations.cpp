// The operations "Attention" and "GroupNorm" for OpenVINO, which loads them as an extension.

#include <openvino/core/extension.hpp>
#include <openvino/core/op_extension.hpp>
#include <openvino/core/parallel.hpp>
#include <openvino/op/op.hpp>

#include "attention.hpp"
#include "group_norm.hpp"

namespace worldvalue {

// Inputs: queries (B, H, N, E), keys and values (B, H, M, E) of each part in turn, all bf16 and E 32, 64, 96 or 128;
// then, where there is one, a mask (N, sum of M), true where a query sees a key. Result: bf16 (B, N, H, E).
class AttentionOp : public ov::op::Op {
public:
    OPENVINO_OP("Attention", "worldvalue")

    AttentionOp() = default;
    AttentionOp(const ov::OutputVector& inputs, float scale) : Op(inputs), scale_(scale) {
        constructor_validate_and_infer_types();
    }

    void validate_and_infer_types() override {
        const auto& queries = get_input_partial_shape(0);
        set_output_type(0, ov::element::bf16, {queries[0], queries[2], queries[1], queries[3]});
    }

    std::shared_ptr<ov::Node> clone_with_new_inputs(const ov::OutputVector& inputs) const override {
        return std::make_shared<AttentionOp>(inputs, scale_);
    }

    bool visit_attributes(ov::AttributeVisitor& visitor) override {
        visitor.on_attribute("scale", scale_);
        return true;
    }

    bool has_evaluate() const override { return true; }

    bool evaluate(ov::TensorVector& outputs, const ov::TensorVector& inputs) const override {
        const auto& shape = inputs[0].get_shape();
        Sizes sizes{long(shape[0]), long(shape[1]), long(shape[2]), 0};
        std::vector<Part> parts;
        for (size_t place = 1; place + 1 < inputs.size(); place += 2) {
            const long tokens = inputs[place].get_shape()[2];
            parts.push_back({data(inputs[place]), data(inputs[place + 1]), tokens});
            sizes.tokens += tokens;
        }
        const bool masked = inputs.size() % 2 == 0;
        const auto seen = seen_keys(sizes, masked ? static_cast<const uint8_t*>(inputs.back().data()) : nullptr);
        outputs[0].set_shape({shape[0], shape[2], shape[1], shape[3]});
        auto* results = static_cast<bf16*>(outputs[0].data());
        switch (shape[3]) {
            case 32: compute<1>(sizes, data(inputs[0]), parts, seen, results); break;
            case 64: compute<2>(sizes, data(inputs[0]), parts, seen, results); break;
            case 96: compute<3>(sizes, data(inputs[0]), parts, seen, results); break;
            case 128: compute<4>(sizes, data(inputs[0]), parts, seen, results); break;
            default: return false;
        }
        return true;
    }

private:
    template <long SLICES>
    void compute(const Sizes& sizes, const bf16* queries, const std::vector<Part>& parts,
                 const std::vector<__mmask32>& seen, bf16* results) const {
        constexpr long width = SLICES * 32;
        ov::parallel_nt(0, [&](int thread, int threads) {
            Attention<SLICES> attention(sizes, scale_, seen);
            const long all = sizes.batch * sizes.heads;
            std::vector<Part> own(parts.size());
            for (long head = all * thread / threads; head < all * (thread + 1) / threads; ++head) {
                for (size_t place = 0; place < own.size(); ++place) {
                    const long first = head * parts[place].tokens * width;
                    own[place] = {parts[place].keys + first, parts[place].values + first, parts[place].tokens};
                }
                const long row = sizes.heads * width;
                bf16* first = results + head / sizes.heads * sizes.queries * row + head % sizes.heads * width;
                attention(queries + head * sizes.queries * width, own, first, row);
            }
        });
    }

    static const bf16* data(const ov::Tensor& tensor) { return static_cast<const bf16*>(tensor.data()); }

    float scale_ = 1;
};

// Inputs: pictures (B, H, W, C), bf16 and C a multiple of 16; weights and biases (C), float32. Result: like pictures.
class GroupNormOp : public ov::op::Op {
public:
    OPENVINO_OP("GroupNorm", "worldvalue")

    GroupNormOp() = default;
    GroupNormOp(const ov::OutputVector& inputs, long groups, float eps, bool silu)
        : Op(inputs), groups_(groups), eps_(eps), silu_(silu) {
        constructor_validate_and_infer_types();
    }

    void validate_and_infer_types() override { set_output_type(0, ov::element::bf16, get_input_partial_shape(0)); }

    std::shared_ptr<ov::Node> clone_with_new_inputs(const ov::OutputVector& inputs) const override {
        return std::make_shared<GroupNormOp>(inputs, groups_, eps_, silu_);
    }

    bool visit_attributes(ov::AttributeVisitor& visitor) override {
        visitor.on_attribute("groups", groups_);
        visitor.on_attribute("eps", eps_);
        visitor.on_attribute("silu", silu_);
        return true;
    }

    bool has_evaluate() const override { return true; }

    bool evaluate(ov::TensorVector& outputs, const ov::TensorVector& inputs) const override {
        const auto& shape = inputs[0].get_shape();
        outputs[0].set_shape(shape);
        const long count = shape[0], pixels = shape[1] * shape[2], channels = shape[3];
        const auto* pictures = static_cast<const bf16*>(inputs[0].data());
        const auto* weight = static_cast<const float*>(inputs[1].data());
        const auto* bias = static_cast<const float*>(inputs[2].data());
        auto* results = static_cast<bf16*>(outputs[0].data());
        ov::parallel_nt(0, [&](int thread, int threads) {
            GroupNorm norm(pixels, channels, groups_, eps_, silu_);
            for (long place = count * thread / threads; place < count * (thread + 1) / threads; ++place)
                norm(pictures + place * pixels * channels, weight, bias, results + place * pixels * channels);
        });
        return true;
    }

private:
    long groups_ = 1;
    float eps_ = 0;
    bool silu_ = false;
};

}  // namespace worldvalue

OPENVINO_CREATE_EXTENSIONS(
    std::vector<ov::Extension::Ptr>({std::make_shared<ov::OpExtension<worldvalue::AttentionOp>>(),
                                     std::make_shared<ov::OpExtension<worldvalue::GroupNormOp>>()}))
