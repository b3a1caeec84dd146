"""`python -m stp.plan`: its counts against real models, and its memory against what the CPU allocator says."""

from collections import Counter
from dataclasses import replace

import pytest
import torch

from stp.errors import UserError
from stp.models.options import Lora, Model
from stp.models.policy import load_policy
from stp.plan import plan
from stp.plan.plan import (
    GIB,
    Cost,
    Planner,
    Sizes,
    attention_operations,
    beside,
    deeper,
    draw_cost,
    forwards,
    hours,
    memory,
    score_cost,
    skeleton,
    update_cost,
)
from stp.run.engine import Engine, Optimizer, Zero
from stp.run.ranks import bootstrap
from tests.commands import command
from tests.config import composed

ROTARY = 1e-4  # some releases of transformers compute the rotary angles by a matrix product, which is counted
ALL_SEVEN = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def size_of(options):
    return Sizes.of(skeleton(options), options)


@pytest.mark.parametrize("lora", [Lora(), Lora(rank=8), Lora(rank=3, target_modules=ALL_SEVEN)])
def test_counts_are_those_of_the_real_model(lora):
    real, _ = load_policy(Model(lora=lora))
    named = dict(real.named_parameters())
    shapes = {name: (p.shape, p.dtype, p.requires_grad) for name, p in named.items()}
    thin = skeleton(Model(lora=lora))
    assert {name: (p.shape, p.dtype, p.requires_grad) for name, p in thin.named_parameters()} == shapes
    assert all(p.is_meta for p in thin.parameters())
    sizes = Sizes.of(thin, Model(lora=lora))
    assert sizes.base + sizes.adapter == sum(p.numel() for p in named.values())
    if lora.rank:
        trainable, total = real.model.get_nb_trainable_parameters()  # peft's own count
        assert (sizes.trainable, sizes.base + sizes.adapter) == (trainable, total) and sizes.adapter == trainable
    else:
        assert sizes.trainable == sizes.base == sum(p.numel() for p in named.values())


def test_llada_8b_and_dream_7b_have_their_known_sizes():
    """LLaDA's by hand from its config, Dream's as Qwen2.5-7B is published; no network, no storage."""
    d, layers, mlp, vocabulary = 4096, 32, 12288, 126464
    by_hand = 2 * vocabulary * d + layers * (4 * d * d + 3 * d * mlp + 2 * d) + d
    llada = Model(path="GSAI-ML/LLaDA-8B-Instruct", dtype="bfloat16")
    assert size_of(llada) == Sizes(by_hand, 0, by_hand, 2)
    assert by_hand == 8_015_581_184
    assert size_of(replace(llada, path="Dream-org/Dream-v0-Instruct-7B")).base == 7_615_616_512
    linears = 32 * (4 * d * d + 3 * d * mlp)
    quantised = size_of(replace(llada, quantize="nf4", lora=Lora(rank=128)))
    assert (quantised.base, quantised.four_bit) == (by_hand, linears)
    assert quantised.weights / GIB == pytest.approx((2 * (by_hand - linears) + linears * 0.516) / GIB, rel=1e-3)  # 5.3 GiB
    paper = size_of(composed("plan", "scale=paper").model)  # q, k, v: 4096 to 4096; up: 4096 to 12288
    assert paper.trainable == 32 * 128 * (3 * (d + d) + d + mlp) == 167_772_160


def test_qwen3_has_its_published_size_and_one_matrix_for_embeddings_and_head():
    """Published: 0.44B parameters without embeddings, 0.6B with them. Its heads are wider than hidden_size / heads."""
    config = composed("plan", "scale=paper", "model=qwen3_a2d")
    policy = skeleton(config.model)
    sizes = Sizes.of(policy, config.model)
    assert (sizes.base, sizes.base - 151_936 * 1024) == (596_049_920, 440_467_456)
    assert sizes.trainable == 28 * 128 * (1024 + 2048 + 2 * (1024 + 1024) + 2048 + 1024 + 3 * (1024 + 3072))
    assert attention_operations(policy, 1, 10) == 28 * 2 * (2 * 10 * 10 * 16 * 128)  # two products of every head and layer
    assert (config.sampler.length, config.sampler.block_length) == (256, 32)


def test_a_checkpoint_folder_is_planned_from_its_config(tmp_path):
    from stp.models.tiny import shipped

    (tmp_path / "config.json").write_text((shipped("countdown") / "config.json").read_text())  # and no weights
    assert size_of(Model(path=str(tmp_path))).base == 481_056


def test_zero_shards_llada_as_measured():
    """GiB per GPU without activations: LLaDA-8B, rank 128 on all seven linears, bf16 with fp32 master weights and Adam."""
    sizes = Sizes(8_015_581_184, 335_544_320, 335_544_320, 2)
    states = ("weights", "adapter", "gradients", "optimizer")
    for stage, expected in ((2, [19.9, 17.7, 16.6, 16.1]), (3, [19.9, 10.0, 5.0, 2.5])):
        found = [memory(sizes, Zero(stage), n, False, {}) for n in (1, 2, 4, 8)]
        assert [sum(m.kept[s] for s in states) / GIB for m in found] == pytest.approx(expected, abs=0.05)
        moved = memory(sizes, Zero(stage, "cpu"), 4, False, {})
        assert "optimizer" not in moved.kept and moved.host == found[2].kept["optimizer"]
    assert memory(sizes, Zero(1), 4, False, {}).kept["gradients"] == 2 * 335_544_320
    # rollouts run on whole weights, whatever the stage
    phases = {"pregeneration": {}, "rollout": {}, "update": {"activations": 5.0}}
    gathered = memory(sizes, Zero(3), 8, False, phases)
    assert gathered.phases["rollout"]["gathered weights"] == 2 * (8_015_581_184 + 335_544_320)
    assert gathered.phases["update"] == gathered.kept | {"gathered weights": 2e9, "activations": 5.0}
    # before DeepSpeed takes the policy it is whole, and has no gradients
    assert gathered.phases["pregeneration"] == {"weights": 2 * 8_015_581_184, "adapter": 2 * 335_544_320}
    assert memory(sizes, Zero(2), 8, True, {}).kept["reference copy"] == 2 * 8_015_581_184


def allocated(call, warm=True):
    """Peak of the CPU allocator during a call, as the profiler saw every allocation. warm: call it once before."""
    if warm:
        call()  # what is made once and kept
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
        call()
    events = [e for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
    now = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak


@pytest.mark.parametrize(
    ("lora", "chunk", "checkpointing", "rows", "positions"),
    [
        (Lora(), 8192, False, 12, 500),
        (Lora(), 8192, True, 12, 500),
        (Lora(rank=8, dropout=0.05), 8192, True, 12, 500),
        (Lora(rank=8), 8192, True, 2, 6000),  # nearly all of it logits
        (Lora(rank=8), 1000, True, 2, 6000),  # a chunk of them
    ],
)
def test_activations_and_logits_are_what_the_cpu_allocates(lora, chunk, checkpointing, rows, positions):
    """The meta device's peak lies within 3% of the allocator's."""
    options, length = Model(lora=lora, logit_chunk=chunk), 96
    predicted = update_cost(skeleton(options), rows, length, positions, checkpointing).peak
    policy, _ = load_policy(options)
    if checkpointing:
        policy.llama.gradient_checkpointing_enable({"use_reentrant": False})
    for parameter in (p for p in policy.parameters() if p.requires_grad):
        parameter.register_post_accumulate_grad_hook(plan._drop)
    policy.train()
    ids_BS, index_M = torch.zeros(rows, length, dtype=torch.long), torch.zeros(positions, dtype=torch.long)

    def micro_batch():
        policy(ids_BS.clone(), None, index_M.clone(), index_M.clone()).sum().backward()

    assert predicted.total() == pytest.approx(allocated(micro_batch), rel=0.03)
    # one buffer of a chunk's logits, in which their gradient is made as well
    assert predicted["logits"] <= min(positions, chunk) * policy.llama.config.vocab_size * 4


@pytest.mark.parametrize(
    ("stage", "dtype", "bytes_of_each"), [(1, "bfloat16", 6), (2, "bfloat16", 6), (3, "bfloat16", 6), (2, "float32", 4)]
)
def test_an_optimizer_step_holds_the_gradients_again(stage, dtype, bytes_of_each):
    """As one flat tensor, and from there in float32. bytes_of_each: for each trained weight."""
    bootstrap()
    options, zero = Model(dtype=dtype), Zero(stage)
    policy, _ = load_policy(options)
    sizes = Sizes.of(policy, options)
    step = memory(sizes, zero, 1, False, {}).phases["optimizer step"]
    assert sum(size for name, size in step.items() if "flat" in name) == bytes_of_each * sizes.trainable
    engine = Engine(policy, Optimizer(), zero, dtype == "bfloat16")
    ids_BS, index_M = torch.zeros(1, 8, dtype=torch.long), torch.arange(8)
    try:
        peaks = []
        for _ in range(2):  # the first step makes Adam's moments
            engine.backward(engine(ids_BS, None, index_M, index_M).sum(), last=True)
            peaks.append(allocated(engine.step, warm=False))
    finally:
        engine.destroy()
    assert peaks[1] == pytest.approx(bytes_of_each * sizes.trainable, rel=0.03)


@pytest.mark.parametrize(("temperature", "cache"), [(0.0, "none"), (0.9, "none"), (1.0, "none"), (1.0, "dual")])
def test_a_rollouts_forward_is_what_the_cpu_allocates(temperature, cache):
    rows, length, positions = 16, 72, 16 * 24
    predicted = draw_cost(skeleton(Model()), rows, length, positions, temperature, cache).peak
    policy, _ = load_policy(Model(), trainable=False)
    ids_BS, index_M = torch.zeros(rows, length, dtype=torch.long), torch.zeros(positions, dtype=torch.long)

    def forward():
        with torch.no_grad():
            kept = policy.within(0, length).kept if cache == "dual" else None
            policy.draw(ids_BS.clone(), None, index_M.clone(), temperature, torch.rand(positions), kept)

    assert predicted.total() == pytest.approx(allocated(forward), rel=0.03)


def test_saved_tensors_are_what_autograd_saves():
    """Without checkpointing, what the trunk leaves for the backward pass is what autograd's own hooks are given."""
    policy, _ = load_policy(Model())
    known = {p.untyped_storage()._cdata for p in policy.parameters()}
    saved = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage._cdata not in known:
            saved[storage._cdata] = (storage, storage.nbytes())  # kept, so that no address is used twice
        return tensor

    ids_BS, index_M = torch.zeros(4, 60, dtype=torch.long), torch.zeros(50, dtype=torch.long)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        policy.train()(ids_BS, None, index_M, index_M.clone()).sum()
    whole = update_cost(skeleton(Model()), 4, 60, 50, False).peak.total()
    assert 0.8 * whole < sum(size for _, size in saved.values()) < whole


def test_forwards_of_an_update():
    """Table 8: 2 prompts of 6, K = 3, mu = 4 with fresh masks; gamma = t_cutoff = 0.05 of 128 steps leave 116 forwards."""
    config = composed("plan", "scale=paper")
    found = {one.phase: (one.count, one.rows, one.tokens, one.positions) for one in forwards(config, 1)}
    assert found == {
        "rollout": (116, 12, 200 + 256, 12 * 32),
        "old policy": (4 * 2, 6 * 3, 456, 4608),
        "reference": (4 * 2, 6 * 3, 456, 4608),
        "update": (4 * 2, 6 * 3, 456, 4608),
    }
    for ranks in (2, 4, 8):  # a group stays whole: from 4 on, this is what a multiple of prompts puts on each
        found = {one.phase: (one.count, one.rows) for one in forwards(config, ranks)}
        assert found == {"rollout": (116, 6), "old policy": (4, 18), "reference": (4, 18), "update": (4, 18)}
    halves = composed("plan", "scale=paper", "trainer.rollout_rows=5", "sampler=standard", "trainer.fresh_masks=false")
    found = {one.phase: (one.count, one.rows) for one in forwards(halves, 1)}
    assert found == {"rollout": (3 * 128, 5), "old policy": (2, 18), "reference": (2, 18), "update": (8, 18)}
    # without dropout theta_old on the first mask set is the first inner update's own forward
    for fresh, old in ((True, {"old policy": (6, 18)}), (False, {})):
        silent = composed("plan", "scale=paper", "model.lora.dropout=0", f"trainer.fresh_masks={str(fresh).lower()}")
        found = {one.phase: (one.count, one.rows) for one in forwards(silent, 1)}
        assert found.pop("reference")[0] == (8 if fresh else 2)
        assert found == {"rollout": (116, 12), **old, "update": (8, 18)}


@pytest.mark.parametrize(
    ("override", "phases", "copies"),
    [
        ("estimator=coupled", ["rollout", "old policy", "reference", "update"], 6),
        ("estimator=one_step", ["rollout", "old policy", "reference", "update"], 1),
        ("estimator=spg", ["rollout", "update"], 3),
        ("objective.beta=0", ["rollout", "old policy", "update"], 3),
        ("objective=stable", ["rollout", "old policy", "weights", "update"], 3),
        ("objective=dmpo", ["rollout", "weights", "update"], 3),
    ],
)
def test_forwards_follow_estimator_and_objective(override, phases, copies):
    runs = forwards(composed("plan", "scale=paper", override), 1)
    assert [one.phase for one in runs] == phases
    assert [one.backward for one in runs] == [phase == "update" for phase in phases]
    assert runs[-1].rows == 6 * copies


@pytest.mark.parametrize(("rescue", "times"), [("igpo", 1), ("resample", 3)])
def test_a_rescue_is_counted_at_its_most(rescue, times, capsys):
    """As if every group were rolled out again every time. igpo also scores the solutions, whatever the sampler is."""
    config = composed("plan", f"rescue={rescue}", "sampler=standard", "trainer.eval_size=0", "trainer.probe_every=0", "ranks=1")
    found = {one.phase: one.count for one in forwards(config, 1)}
    assert found["rescue"] == times * found["rollout"]
    assert [one.phase for one in beside(config, 1)] == (["solutions"] if rescue == "igpo" else [])
    plan.main(config)
    assert f"rescue: 0 to {found['rescue']:,} forwards per update" in capsys.readouterr().out


def test_draws_that_are_backpropagated_apart_are_more_passes_of_fewer_rows():
    runs = [forwards(composed("plan", "scale=paper", "objective=stable", *more), 1) for more in ([], ["trainer.micro_draws=1"])]
    whole, apart = ({one.phase: one for one in found if one.phase != "rollout"} for found in runs)
    for phase, count in {"old policy": 8, "weights": 3 * 2, "update": 8}.items():
        assert (whole[phase].count, whole[phase].rows, whole[phase].scored) == (count, 18, 4608)
        assert (apart[phase].count, apart[phase].rows, apart[phase].scored) == (3 * count, 6, 1536)


def test_checkpointing_trades_activations_and_the_chunk_bounds_logits():
    planner = Planner(composed("plan", "experiment=lora").model)
    config = composed("plan", "experiment=lora")
    plain, kept = planner.memory(config, 1, False), planner.memory(config, 1, True)
    assert kept.total("update") < 0.5 * plain.total("update") and kept.kept == plain.kept
    small = replace(config, model=replace(config.model, logit_chunk=1024))
    assert planner.memory(small, 1, True).total("update") <= kept.total("update")


@pytest.fixture(scope="module")
def published():
    """The planner of LLaDA-8B at paper scale."""
    return Planner(composed("plan", "scale=paper").model)


def test_what_cannot_fit_is_refused_and_the_change_named_makes_it_fit(capsys, published):
    with pytest.raises(UserError) as refused:
        plan.main(composed("plan", "scale=paper", "ranks=1", "gpu_memory=23"))
    rule = "gpu_memory=23: 23.8 GiB are needed on each of 1 GPU(s) (update: weights 14.9, adapter 0.3, gradients 0.3, "
    assert str(refused.value).startswith(rule)
    named = str(refused.value).split("it fits with ")[1].split(", or with ")
    assert named[0] == "trainer.micro_batch=2" and "model.quantize=nf4" in named
    assert "beside reserve=2; " in str(refused.value)
    shown = capsys.readouterr().out
    assert "8,183,353,344 parameters, 167,772,160 trainable (2.05%)" in shown and "fits on" not in shown
    config = composed("plan", "scale=paper", named[0])
    assert 19 < published.memory(config, 1).peak / GIB < 21
    # 0.2 GiB of 24 are no room for a CUDA context; without a reserve it would fit
    tight = composed("plan", "scale=paper", "gpu_memory=24")
    needed = published.memory(tight, 1)
    assert not plan.fits(tight, needed) and plan.fits(replace(tight, reserve=0.0), needed)


@pytest.mark.parametrize(
    ("positions", "rows", "lora"),  # the peak lies in the last layer, or at the head
    [(30, 4, Lora()), (3000, 1, Lora(rank=8, dropout=0.05))],
)
def test_two_and_three_layers_tell_the_cost_of_any_number(positions, rows, lora):
    two, three, five = (skeleton(Model(lora=lora, logit_chunk=1000), layers) for layers in (2, 3, 5))
    for measure, *given in (
        (update_cost, positions, False),
        (update_cost, positions, True),
        (score_cost, positions),
        (draw_cost, positions, 0.9, "none"),
        (draw_cost, positions, 0.0, "dual"),
    ):
        whole = measure(five, rows, 50, *given)
        assert deeper(measure(two, rows, 50, *given), measure(three, rows, 50, *given), 5) == whole
    assert whole.peak.total() > 0


@pytest.fixture
def free(monkeypatch):
    """Forwards that need nothing, so that what is kept decides."""
    for name in ("update_cost", "draw_cost", "score_cost"):
        monkeypatch.setattr(plan, name, lambda *_: Cost(Counter(activations=0), 0.0))
    monkeypatch.setattr(plan, "LIVE", 0)


def test_the_smallest_changes_are_named_or_none(free):
    overrides = ["scale=paper", "model.lora.rank=0", "objective.beta=0", "trainer.rollout_rows=1", "trainer.micro_batch=1"]
    config = composed("plan", *overrides, "gpu_memory=40", "reserve=0")
    planner = Planner(config.model)
    # stage 2 on 8 GPUs: 15 + 1.9 + 11.2 + 0.9; stage 3 gathers whole weights for rollouts: 15 + 1.9 + 1.9 + 11.2 + 0.9;
    # without the optimizer's 90: 15 + 15 + 0.9
    told = "it fits with zero=stage2_offload, or with ranks=8 trainer.prompts_per_update=8"
    assert plan.remedy(planner, config, 1) == told
    assert "a larger GPU" in plan.remedy(planner, replace(config, gpu_memory=10.0), 1)


def test_four_bit_weights_are_a_remedy(free):
    """16 GiB: 14.9 of weights, 3.4 of training states; 4-bit linears leave 5.3 of weights."""
    config = composed("plan", "scale=paper", "gpu_memory=16")
    assert plan.remedy(Planner(config.model), config, 1) == "it fits with model.quantize=nf4"
    full = composed("plan", "scale=paper", "model.lora.rank=0", "objective.beta=0", "gpu_memory=16")
    assert "nf4" not in plan.remedy(Planner(full.model), full, 1)  # which cannot be trained


def test_operations_are_two_for_each_weight_and_token():
    """By hand: the tiny base's linears without its embedding, attention's two products, three times that with backward."""
    options = Model()
    policy, rows, tokens, positions = skeleton(options), 3, 40, 50
    config = policy.llama.config
    d, mlp, layers, vocabulary = 96, 256, config.num_hidden_layers, config.vocab_size
    trunk = 2 * rows * tokens * layers * (4 * d * d + 3 * d * mlp)
    head, attention = 2 * positions * d * vocabulary, 4 * rows * tokens**2 * d * layers
    assert score_cost(policy, rows, tokens, positions).operations == pytest.approx(trunk + head + attention, rel=ROTARY)
    assert draw_cost(policy, rows, tokens, positions, 0.9, "none").operations == pytest.approx(
        trunk + head + attention, rel=ROTARY
    )
    assert update_cost(policy, rows, tokens, positions, False).operations == pytest.approx(
        3 * (trunk + head) + 3.5 * attention, rel=ROTARY
    )
    again = update_cost(policy, rows, tokens, positions, True).operations
    down = 2 * rows * tokens * layers * d * mlp  # a layer's last product, whose result no gradient needs: not made again
    assert again == pytest.approx(4 * trunk - down + 3 * head + 4.5 * attention, rel=ROTARY)
    eager = skeleton(replace(options, attention="eager"))
    assert score_cost(eager, rows, tokens, positions).operations == pytest.approx(trunk + head + attention, rel=ROTARY)


def test_a_rollouts_operations_are_those_of_the_documentation(published):
    """docs/performance.md: 79.7 TFLOP for a forward of 12 rows of 456 tokens, which an H100 at its peak does in 81 ms."""
    config = composed("plan", "scale=paper", "gpu_tflops=1000", "utilization=0.5", "trainer.updates=10")
    rollout = next(kind for kind in forwards(config, 1) if kind.phase == "rollout")
    each = published.cost(config, rollout).operations
    assert each == pytest.approx(79.7e12, rel=0.01)
    spent = hours(published, config, 1)
    assert spent["rollout"] == pytest.approx(each * 116 * 10 / 0.5e15 / 3600)
    assert set(spent) == {"pregeneration", "anchors", "evaluation", "probe", "rollout", "old policy", "reference", "update"}


def test_what_a_run_has_beside_its_updates():
    """Table 8: 4,000 prompts in batches of 12 at 128 forwards, 1,319 test problems twice, 16 draws of 12 rows 150 times."""
    config = composed("plan", "scale=paper", "trainer.probe_rows=12", "trainer.probe_draws=16")
    found = {one.phase: (one.times, one.count, one.rows, one.positions) for one in beside(config, 1)}
    assert found == {
        "pregeneration": (1, 334 * 128, 12, 12 * 32),
        "anchors": (1, 334, 12, 12 * 256),
        "evaluation": (2, 110 * 128, 12, 12 * 32),
        "probe": (150, 16 * 2, 6, 6 * 256),
    }
    two = {one.phase: one.count for one in beside(config, 2)}
    assert two == {"pregeneration": 167 * 128, "anchors": 167, "evaluation": 55 * 128, "probe": 16}
    overrides = ["trainer.eval_every=400", "trainer.eval_temperatures=[0.0,1.0]", "trainer.probe_every=0", "sampler=standard"]
    often = beside(composed("plan", "scale=paper", *overrides), 1)
    assert [(one.phase, one.temperature, one.times) for one in often] == [("evaluation", 0.0, 5), ("evaluation", 1.0, 5)]
    assert beside(composed("plan", "scale=paper", *overrides, "trainer.eval_size=0"), 1) == []
    worked = composed("plan", "scale=paper", "sampler.anchors=ground_truth", "trainer.eval_size=0", "trainer.probe_every=0")
    assert [one.phase for one in beside(worked, 1)] == ["anchors"]  # nothing to generate


def test_every_phase_counts_for_the_peak():
    """Wide evaluation and pre-generation batches beside a small update."""
    config = composed("plan", "trainer.rollout_rows=512", "trainer.micro_batch=1", "trainer.group_size=64", "sampler.gamma=0.1")
    needed = Planner(config.model).memory(config, 1)
    assert set(needed.phases) == {"pregeneration", "anchors", "evaluation", "rollout", "update"}
    assert needed.peak == max(needed.total(phase) for phase in needed.phases) > 2 * needed.total("update")
    assert needed.fullest in ("pregeneration", "anchors", "evaluation", "rollout")


def test_a_plan_compares_ranks_and_says_which_divide(capsys):
    plan.main(composed("plan", "experiment=lora"))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "tiny: 597,792 parameters, 116,736 trainable (19.53%)"
    assert lines[-2] == "trainer.prompts_per_update=12 does not divide among 8 GPUs: these are for a multiple"
    assert lines[-1] == "fits on 1, 2, 4, 8 GPU(s) of 80 GiB, 2 of them in reserve"
    with pytest.raises(UserError, match=r"^trainer\.prompts_per_update=12: 5 ranks share"):
        plan.main(composed("plan", "ranks=5"))


def test_the_command_ends_with_code_2_where_nothing_fits(tmp_path):
    done = command("-m", "stp.plan", "gpu_memory=0.001", "ranks=1", cwd=tmp_path)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 2 and line.startswith("error: gpu_memory=0.001: ")
    assert "481,056 parameters" in done.stdout and not list(tmp_path.iterdir())


@pytest.mark.parametrize("task", ["gsm8k", "math"])
def test_the_other_tasks_are_planned_at_paper_scale(task, capsys):
    plan.main(composed("plan", "scale=paper", f"task={task}", "ranks=2", "gpu_memory=80"))
    printed = capsys.readouterr().out
    assert "12 completions, 3,072 generated tokens" in printed and "fits on 2 GPU(s) of 80 GiB" in printed
