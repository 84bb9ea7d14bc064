"""Who may see whom, what the losses look at, and that the quick way of scoring equals the long one."""

from dataclasses import replace

import torch
from tests.small import small_estimator

from worldvalue.backbones.experts import in_line
from worldvalue.backbones.video_vae import WanVAE
from worldvalue.models.heads import spread, unspread
from worldvalue.models.wvm import WVM, Context
from worldvalue.recipes.published import wan22_5b
from worldvalue.types import ValueModel


def _model() -> WVM:
    return small_estimator().model


def _observe(model: WVM, batch: dict[str, torch.Tensor]) -> Context:
    return model.observe({"latents": batch["latents"][:, :, :1], "text": model.text(batch["tokens"])})


def _current_keys_values(model: WVM, batch: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    """Keys and values of the current video tokens during a training step."""
    caught: list[Context] = []
    observe = model.observe

    def overheard(seen: dict[str, torch.Tensor]) -> Context:
        caught.append(observe(seen))
        return caught[-1]

    model.observe = overheard
    torch.manual_seed(0)
    model.losses(batch)
    del model.observe
    return [x for layer in caught[0].video for x in layer]


def test_current_video_sees_neither_the_future_nor_any_value_to_the_bit() -> None:
    model = _model()
    batch = model.example_batch(2)
    latents = batch["latents"].clone()
    latents[:, :, 1] = torch.randn_like(latents[:, :, 1])
    before = _current_keys_values(model, batch)
    other_future = _current_keys_values(model, {**batch, "latents": latents})
    other_values = _current_keys_values(model, {**batch, "values": torch.rand_like(batch["values"])})
    for a, b, c in zip(before, other_future, other_values, strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a, c)


def test_the_future_does_see_the_current_frames_and_the_value_too() -> None:
    model = _model()
    batch = model.example_batch(2)
    latents = batch["latents"].clone()
    latents[:, :, 0] += 1.0
    losses = []
    for one in (batch, {**batch, "latents": latents}):
        torch.manual_seed(0)
        losses.append(model.losses(one))
    assert losses[0]["video"] != losses[1]["video"]
    assert losses[0]["value"] != losses[1]["value"]


def test_the_value_loss_never_sees_the_future() -> None:
    model = _model()
    batch = model.example_batch(2)
    latents = batch["latents"].clone()
    latents[:, :, 1] += 1.0
    losses = []
    for one in (batch, {**batch, "latents": latents}):
        torch.manual_seed(0)
        losses.append(model.losses(one)["value"])
    assert torch.equal(*losses)


@torch.no_grad()
def test_scoring_with_kept_keys_and_values_equals_one_joint_attention_with_a_mask() -> None:
    """The reference runs both streams together, layer by layer, under the two-dimensional mask of the paper."""
    model = _model()
    batch = model.example_batch(2)
    current = batch["latents"][:, :, :1]
    text = model.text(batch["tokens"])
    noise = torch.randn(2, 1, 4)
    quick = model.predict(model.observe({"latents": current, "text": text}), batch["values"][:, :1], noise)[:, 0]
    velocity = _joint_reference(model, current, text, batch["values"][:, 0], noise[:, 0])
    slow = unspread(noise[:, 0] - velocity).clamp(0, 1)
    torch.testing.assert_close(quick, slow, rtol=1e-5, atol=1e-5)


def _joint_reference(
    model: WVM, current: torch.Tensor, text: torch.Tensor, prefix: torch.Tensor, noise: torch.Tensor
) -> torch.Tensor:
    video, value = model.video, model.value
    tokens = torch.cat((spread(prefix)[:, None], noise), 1).unsqueeze(-1)
    levels = torch.tensor([0.0, 1, 1, 1, 1]).expand(2, 5)
    hidden = [video.patch_embedding(current).flatten(2).transpose(1, 2), value.proj_in(tokens)]
    _, video_modulation = video._embed_sigma(torch.zeros(2), torch.float32)
    time = value.time_embedder(value.timesteps_proj(levels.flatten() * 1000).unflatten(0, (2, 5)))
    modulations = [video_modulation, value.time_proj(torch.nn.functional.silu(time)).unflatten(2, (6, -1))]
    texts = [video.read_text(text), value.read_text(text)]
    rotaries = [video._rotary(current, 0), in_line(torch.arange(5), 12)]
    seen = hidden[0].shape[1]
    mask = torch.ones(seen + 5, seen + 5, dtype=torch.bool)
    mask[:seen, seen:] = False
    for blocks, *read in zip(zip(video.blocks, value.blocks, strict=True), *texts, strict=True):
        hidden = _joint_layer(blocks, hidden, modulations, read, rotaries, mask)
    shift, scale = (value.scale_shift_table.unsqueeze(0) + time.unsqueeze(2)).unbind(2)
    return value.proj_out(value.norm_out(hidden[1]) * (1 + scale) + shift)[:, 1:, 0]


def _joint_layer(blocks, hidden, modulations, texts, rotaries, mask):
    from worldvalue.backbones.joint_attention import rotate

    parts = [(b.scale_shift_table + m).unbind(-2) for b, m in zip(blocks, modulations, strict=True)]
    queries, keys, values = [], [], []
    for block, x, part, rotary in zip(blocks, hidden, parts, rotaries, strict=True):
        attn = block.attn1
        x = block.norm1(x) * (1 + part[1]) + part[0]
        queries.append(rotate(attn.norm_q(attn.to_q(x)).unflatten(2, (attn.heads, -1)), rotary))
        keys.append(rotate(attn.norm_k(attn.to_k(x)).unflatten(2, (attn.heads, -1)), rotary))
        values.append(attn.to_v(x).unflatten(2, (attn.heads, -1)))
    q, k, v = (torch.cat(x, 1).transpose(1, 2) for x in (queries, keys, values))
    scores = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).masked_fill(~mask, float("-inf"))
    attended = (scores.softmax(-1) @ v).transpose(1, 2).flatten(2).split([x.shape[1] for x in hidden], 1)
    out = []
    for block, x, part, heard, text in zip(blocks, hidden, parts, attended, texts, strict=True):
        x = x + block.attn1.to_out[0](heard) * part[2]
        x = x + block._cross_attention(block.norm2(x), text)
        out.append(x + block.ffn(block.norm3(x) * (1 + part[4]) + part[3]) * part[5])
    return out


def test_the_loss_ignores_what_the_model_says_at_the_prefix_token() -> None:
    model = _model()
    batch = model.example_batch(2)
    torch.manual_seed(0)
    before = model.losses(batch)["value"]
    original = model.value.forward

    def shifted(*args: object) -> torch.Tensor:
        out = original(*args).clone()
        out[:, :, 0] += 100.0
        return out

    model.value.forward = shifted
    torch.manual_seed(0)
    assert torch.equal(model.losses(batch)["value"], before)


def test_several_draws_of_a_window_cost_what_as_many_windows_would() -> None:
    model = _model()
    batch = model.example_batch(2)
    losses = []
    for draws, copies in ((3, 1), (1, 3)):
        model.config = replace(model.config, value_draws=draws)
        torch.manual_seed(0)
        losses.append(model.losses({name: x.repeat_interleave(copies, 0) for name, x in batch.items()})["value"])
    torch.testing.assert_close(losses[0], losses[1])


def test_the_prefix_value_reaches_the_prediction() -> None:
    model = _model()
    batch = model.example_batch(1)
    context = _observe(model, batch)
    tokens, level = torch.zeros(1, 1, 4, 1), torch.ones(1, 1)
    low, high = (model.stream(context, torch.tensor([[p]]))(tokens, level) for p in (0.0, 1.0))
    assert not torch.equal(low, high)


def test_the_value_loss_alone_moves_every_layer_of_the_video_stream() -> None:
    model = _model()
    model.losses(model.example_batch(2))["value"].backward()
    for block in model.video.blocks:
        assert block.attn1.to_k.weight.grad.abs().sum() > 0
    # Only keys and values of the last layer are read, so earlier layers must be moved through their outputs.
    assert model.video.blocks[0].ffn.net[2].weight.grad.abs().sum() > 0
    assert model.text.encoder.shared.weight.grad.abs().sum() > 0


def test_several_euler_steps_follow_the_velocity_field_step_by_step() -> None:
    model = _model()
    batch = model.example_batch(1)
    context = _observe(model, batch)
    prefix, noise = torch.tensor([[0.3]]), torch.randn(1, 1, 4)
    x = noise.unsqueeze(-1)
    for now, after in ((1.0, 0.5), (0.5, 0.0)):
        v = model.stream(context, prefix)(x, torch.tensor([[now]]))
        x = x + (after - now) * v
    torch.testing.assert_close(model.predict(context, prefix, noise, steps=2), unspread(x[..., 0]).clamp(0, 1))


def test_it_is_what_training_asks_of_a_model() -> None:
    model = _model()
    assert isinstance(model, ValueModel)
    blocks = [layer for layer in model.modules() if isinstance(layer, model.sharded_layers)]
    assert len(blocks) == 2 * model.config.value.layers  # all of both streams


def test_losses_have_the_names_of_their_weights() -> None:
    model = _model()
    losses = model.losses(model.example_batch(2))
    assert losses.keys() == model.config.weights.keys()
    assert all(loss.ndim == 0 and loss.isfinite() for loss in losses.values())


def test_told_states_are_learned_where_they_are_known_and_change_no_value() -> None:
    plain = _model()
    weights = {"value": 1.0, "video": 1.0, "state": 1.0}
    torch.manual_seed(0)
    model = WVM(replace(plain.config, states=3, weights=weights))
    kept = {name: x for name, x in plain.state_dict().items() if "value.proj_out" not in name}
    model.load_state_dict(kept, strict=False)
    with torch.no_grad():
        model.value.proj_out.weight[:1] = plain.value.proj_out.weight
        torch.nn.init.normal_(model.value.proj_out.weight[1:])
    batch = model.example_batch(2)
    context, noise = _observe(model, batch), torch.randn(2, 1, 4)
    prefix = batch["values"][:, :1]
    torch.testing.assert_close(model.predict(context, prefix, noise), plain.predict(context, prefix, noise))

    batch["states"][0] = torch.nan
    torch.manual_seed(0)
    loss = model._state_loss(batch["states"], prefix, context)
    torch.manual_seed(0)
    told = model._outputs(context, prefix)(torch.randn(2, 1, 4, 1), torch.ones(2, 1))[1, 0, :, 1:]
    torch.testing.assert_close(loss, torch.nn.functional.mse_loss(told, batch["states"][1]))
    loss.backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    assert model.video.blocks[0].attn1.to_k.weight.grad.abs().sum() > 0


def test_the_papers_size_has_the_papers_parameters() -> None:
    with torch.device("meta"):
        model = WVM(wan22_5b().estimator.model)
    video = sum(p.numel() for p in model.video.parameters())
    value = sum(p.numel() for p in model.value.parameters())
    assert video == 4_999_787_712  # diffusers' WanTransformer3DModel at the configuration of Wan2.2-TI2V-5B
    blocks = sum(p.numel() for p in model.value.blocks.parameters())
    assert blocks == 661_739_520
    assert value == blocks + _ends_of_the_value_stream(width=512, text=4096, freq=256)
    assert round(value / 1e9, 1) == 0.7
    assert round((video + value) / 1e9, 1) == 5.7
    with torch.device("meta"):
        vae = WanVAE(wan22_5b().estimator.vae)
    assert sum(p.numel() for p in vae.parameters()) == 704_688_668  # AutoencoderKLWan as Wan2.2 configures it


def _ends_of_the_value_stream(width: int, text: int, freq: int) -> int:
    def linear(a: int, b: int) -> int:
        return a * b + b

    embeddings = linear(1, width) + linear(freq, width) + linear(width, width) + linear(width, 6 * width)
    return embeddings + linear(text, width) + linear(width, width) + linear(width, 1) + 2 * width
