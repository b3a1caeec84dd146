"""A mistake on the command line: one line that names the value and the way out, exit code 2."""

import subprocess
import sys

import pytest

from tests.config import told
from tests.integration.runs import environment

# entry, overrides, what the line must contain: the value and the fix
MISTAKES = [
    # typos
    ("train", "sampler.gama=0.1", "sampler.gama", "did you mean gamma?"),
    ("train", "smapler=stp", "smapler", "did you mean sampler?"),
    ("train", "trainer.update=3", "trainer.update", "did you mean updates?"),
    ("train", "model.lora.rnk=3", "model.lora.rnk", "did you mean rank?"),
    ("train", "task.data.pth=x", "task.data.pth", "did you mean path?"),
    ("train", "optimizer.learning_rat=1", "learning_rat", "not in 'Optimizer'"),
    ("train", "sampler=spt", "sampler/spt", "Available options", "standard", "stp"),
    ("train", "scale=big", "scale/big", "Available options", "paper", "tiny"),
    ("train", "model=lada", "model/lada", "Available options", "llada_8b"),
    ("train", "estimator=sgp", "estimator/sgp", "Available options", "coupled", "one_step", "spg", "unigrpo"),
    ("train", "objective=spg", "objective/spg", "Available options", "policy_gradient"),
    ("train", "estimator=coupled estimator.times=stratified", "estimator.times", "not in 'Coupled'"),
    ("train", "estimator=spg objective.clip=0.1", "objective.clip", "not in 'PolicyGradient'"),
    ("train", "zero=stage4", "zero/stage4", "Available options", "stage3"),
    ("evaluate", "temperature=1", "temperature", "did you mean temperatures?"),
    ("evaluate", "checkpoin=base", "checkpoin", "did you mean checkpoint?"),
    ("pregenerate", "sorce=model", "sorce", "did you mean source?"),
    ("plan", "rank=2", "rank", "did you mean ranks?"),
    ("plan", "ranks=0", "ranks=0", "at least 1 GPU"),
    ("plan", "gpu_memory=0", "gpu_memory=0", "say 80"),
    ("plan", "scale=paper zero=stage3 model.logit_chunk=9", "model.logit_chunk=9", "set model.logit_chunk=4608"),
    ("train", "+sampler.foo=1", "sampler.foo=1", "no such field"),
    ("train", "foo=1", "foo", "--help lists"),
    ("train", "sampler=standard sampler.gamma=0.1", "sampler.gamma", "not in 'Standard'", "--help lists"),
    ("train", "experiment=nothing", "experiment/nothing", "--help lists"),
    ("train", "objective.beta=inf", "objective.beta=inf", "0 turns the penalty off"),
    ("pregenerate", "rows=0", "rows=0", "at least 1"),
    ("pregenerate", "source=web", "source=web", "choose one of model, ground_truth"),
    # wrong types
    ("train", "sampler.gamma=abc", "sampler.gamma=abc", "could not be converted to Float"),
    ("train", "sampler.steps=4.5", "sampler.steps=4.5", "could not be converted to Integer"),
    ("train", "seed=x", "seed=x", "could not be converted to Integer"),
    ("train", "trainer.fresh_masks=perhaps", "perhaps", "is not a valid bool"),
    ("train", "trainer.eval_temperatures=0.5", "trainer.eval_temperatures=0.5", "not a ListConfig, list or tuple"),
    ("train", "sampler.gamma=null", "sampler.gamma=null", "not Optional"),
    ("train", "model.lora=3", "model.lora=3", "int is not a subclass of Lora"),
    ("pretrain", "updates=many", "updates=many", "could not be converted to Integer"),
    # out of range
    ("train", "seed=-1", "seed=-1", "from 0 on"),
    ("train", "sampler.gamma=1.5", "sampler.gamma=1.5", "[0, 1)", "the paper uses 0.05"),
    ("train", "sampler.gamma=-0.1", "sampler.gamma=-0.1", "[0, 1)"),
    ("train", "sampler.gamma=nan", "sampler.gamma=nan", "[0, 1)"),
    ("train", "sampler.t_cutoff=1", "sampler.t_cutoff=1.0", "[0, 1)"),
    ("train", "sampler.temperature=11", "sampler.temperature=11.0", "[0, 10]"),
    ("train", "sampler.length=0", "sampler.length=0", "at least 1 token"),
    ("train", "sampler.length=48 sampler.block_length=16 sampler.steps=0", "sampler.steps=0", "choose 3..48"),
    ("train", "sampler.pregenerations=0", "sampler.pregenerations=0", "at least 1"),
    ("train", "sampler.select=high", "sampler.select=high", "choose one of low_confidence, random"),
    ("train", "sampler.gamma_of=all", "sampler.gamma_of=all", "choose one of length, anchor"),
    ("train", "sampler.anchors=gold", "sampler.anchors=gold", "choose one of model, ground_truth"),
    ("train", "sampler.choose=last", "sampler.choose=last", "choose one of first, random, best"),
    ("train", "estimator.samples=0", "estimator.samples=0", "at least 1"),
    ("train", "estimator.masks=some", "estimator.masks=some", "choose one of exact, bernoulli"),
    ("train", "estimator.times=now", "estimator.times=now", "choose one of uniform, stratified"),
    ("train", "estimator.weight=1", "estimator.weight=1", "choose one of elbo, none"),
    ("train", "estimator.t_min=1", "estimator.t_min=1.0", "[0, 1)"),
    ("train", "estimator.p_mask=1", "estimator.p_mask=1.0", "a probability below 1"),
    ("train", "estimator=one_step estimator.p_mask=-0.1", "estimator.p_mask=-0.1", "a probability below 1"),
    ("train", "estimator=spg estimator.eubo_beta=0.5", "estimator.eubo_beta=0.5", "beta of at least 1"),
    ("train", "estimator=spg estimator.eubo_beta=inf", "estimator.eubo_beta=inf", "beta of at least 1"),
    ("train", "estimator=spg estimator.mixture=1.5", "estimator.mixture=1.5", "lies in [0, 1]"),
    ("train", "estimator=spg estimator.block_length=0", "estimator.block_length=0", "at least 1 token"),
    ("train", "estimator=coupled estimator.samples=0", "estimator.samples=0", "at least 1"),
    ("train", "objective=policy_gradient objective.scale=max", "objective.scale=max", "choose one of std, none"),
    ("train", "objective=policy_gradient objective.normalize=batch", "objective.normalize=batch", "one of sequence, token"),
    ("train", "objective.clip=0", "objective.clip=0.0", "(0, 1)", "the paper uses 0.2"),
    ("train", "objective.beta=-1", "objective.beta=-1.0", "0 turns the penalty off"),
    ("train", "objective.scale=max", "objective.scale=max", "choose one of std, none"),
    ("train", "objective.normalize=batch", "objective.normalize=batch", "choose one of sequence, token"),
    ("train", "objective.log_ratio_max=0", "objective.log_ratio_max=0.0", "must be positive"),
    ("train", "optimizer.lr=0", "optimizer.lr=0.0", "(0, 1)"),
    ("train", "optimizer.beta1=1", "optimizer.beta1=1.0", "[0, 1)"),
    ("train", "optimizer.beta2=-1", "optimizer.beta2=-1.0", "[0, 1)"),
    ("train", "optimizer.weight_decay=-1", "optimizer.weight_decay=-1.0", "cannot be negative"),
    ("train", "optimizer.warmup=-1", "optimizer.warmup=-1", "cannot be negative"),
    ("train", "optimizer.max_grad_norm=-1", "optimizer.max_grad_norm=-1.0", "cannot be negative"),
    ("train", "zero.stage=4", "zero.stage=4", "0, 1, 2 and 3"),
    ("train", "zero.offload=disk", "zero.offload=disk", "choose one of none, cpu"),
    ("train", "logging.wandb=yes", "logging.wandb=yes", "choose one of auto, online, offline, disabled"),
    ("train", "logging.samples=-1", "logging.samples=-1", "cannot be negative"),
    ("train", "model.dtype=float16", "model.dtype=float16", "choose one of float32, bfloat16"),
    ("train", "model.attention=fast", "model.attention=fast", "choose one of sdpa, eager, flash_attention_2"),
    ("train", "model.prompt_tokens=0", "model.prompt_tokens=0", "at least 1"),
    ("train", "model.logit_chunk=0", "model.logit_chunk=0", "at least 1"),
    ("train", "model.lora.rank=-1", "model.lora.rank=-1", "0 is full fine-tuning"),
    ("train", "model.lora.alpha=0", "model.lora.alpha=0", "must be positive"),
    ("train", "model.lora.dropout=1", "model.lora.dropout=1.0", "[0, 1)"),
    ("train", "task.numbers=9", "task.numbers=9", "choose 2 to 6"),
    ("train", "task.max_number=1000", "task.max_number=1000", "2..100"),
    ("train", "task.operators='^'", "task.operators='^'", "a non-empty part of +-*/"),
    ("train", "task.rewards=paper", "task.rewards=paper", "choose one of corrected, published"),
    ("train", "task=gsm8k task.rewards=paper", "task.rewards=paper", "choose one of corrected, published"),
    ("evaluate", "task=math task.grading=strict", "task.grading=strict", "choose one of corrected, published"),
    ("train", "task=gsm8k task.numbers=3", "task.numbers", "not in 'Gsm8k'"),
    ("evaluate", "completion=x.jsonl", "completion", "did you mean completions?"),
    ("train", "task.data.source=web", "task.data.source=web", "choose one of generate, hub, file"),
    ("train", "task.data.seed=-1", "task.data.seed=-1", "from 0 on"),
    ("train", "task.data.train_size=0", "task.data.train_size=0", "at least 1"),
    ("train", "task.data.test_size=-5", "task.data.test_size=-5", "at least 1"),
    ("train", "task.data.validation_size=0", "task.data.validation_size=0", "at least 1"),
    ("train", "trainer.eval_split=train", "trainer.eval_split=train", "choose one of test, validation"),
    ("train", "trainer.updates=0", "trainer.updates=0", "at least 1"),
    ("train", "trainer.inner_updates=0", "trainer.inner_updates=0", "at least 1"),
    ("train", "trainer.prompts_per_update=0", "trainer.prompts_per_update=0", "at least 1"),
    ("train", "trainer.group_size=1", "trainer.group_size=1", "at least 2"),
    ("train", "trainer.rollout_rows=0", "trainer.rollout_rows=0", "at least 1"),
    ("train", "trainer.micro_batch=0", "trainer.micro_batch=0", "at least 1"),
    ("train", "trainer.eval_every=-1", "trainer.eval_every=-1", "0 (off) or more"),
    ("train", "trainer.eval_size=-1", "trainer.eval_size=-1", "0 (off) or more"),
    ("train", "trainer.eval_temperatures=[]", "trainer.eval_temperatures=[]", "say [0.0]"),
    ("train", "trainer.eval_temperatures=[0,-1]", "trainer.eval_temperatures=-1.0", "[0, 10]"),
    ("train", "trainer.checkpoint_every=-1", "trainer.checkpoint_every=-1", "0 (off) or more"),
    ("train", "trainer.keep_checkpoints=0", "trainer.keep_checkpoints=0", "at least 1"),
    ("train", "trainer.probe_every=-1", "trainer.probe_every=-1", "0 (off) or more"),
    ("train", "trainer.probe_draws=1", "trainer.probe_draws=1", "at least 2"),
    ("train", "trainer.probe_rows=0", "trainer.probe_rows=0", "at least 1"),
    ("evaluate", "temperatures=[]", "temperatures=[]", "say [0.0]"),
    ("evaluate", "temperatures=[-1]", "temperatures=[-1.0]", "cannot be negative"),
    ("evaluate", "samples=0", "samples=0", "at least 1"),
    ("evaluate", "rows=0", "rows=0", "at least 1"),
    ("evaluate", "size=0", "size=0", "at least 1"),
    ("export", "checkpoint=base to=gguf", "to=gguf", "choose one of adapter, merged, llada"),
    ("export", "checkpoint=base dtype=float16", "dtype=float16", "choose one of float32, bfloat16"),
    ("pretrain", "updates=0", "updates=0", "at least 1"),
    ("pretrain", "lr=2", "lr=2.0", "(0, 1)"),
    ("pretrain", "careful_until=2", "careful_until=2.0", "[0, 1]"),
    # impossible together
    ("train", "sampler.gamma=0.6 sampler.t_cutoff=0.4", "0.6 + 0.4", "keep their sum below 1"),
    ("train", "sampler.length=48 sampler.block_length=7", "sampler.block_length=7", "a divisor of sampler.length=48"),
    ("train", "sampler.length=48 sampler.block_length=16 sampler.steps=49", "sampler.steps=49", "choose 3..48"),
    ("train", "sampler.length=48 sampler.block_length=16 sampler.steps=2", "sampler.steps=2", "choose 3..48"),
    ("train", "sampler.anchors=ground_truth sampler.pregenerations=2", "sampler.pregenerations=2", "leave it at 1"),
    ("train", "estimator=spg objective=grpo", "objective=grpo", "use objective=policy_gradient"),
    ("train", "objective=grpo estimator=spg", "objective=grpo", "use objective=policy_gradient"),
    ("train", "estimator=spg objective.beta=0.04", "objective.beta=0.04", "has no KL penalty; leave it at 0"),
    ("train", "objective=policy_gradient objective.beta=0.04", "objective.beta=0.04", "or use objective=grpo"),
    ("train", "estimator.masks=bernoulli estimator.t_min=0", "estimator.t_min=0.0", "variance is infinite", "say to 0.05"),
    ("train", "zero=off zero.offload=cpu", "zero.offload=cpu", "zero=stage1 or higher"),
    ("train", "model=llada_8b zero=off", "model.dtype=bfloat16", "add zero=stage1 or zero=stage2"),
    (
        "train",
        "scale=paper zero=stage3 model.lora.rank=0",
        "objective.beta=0.04",
        "use LoRA (model.lora.rank=128) or objective.beta=0",
    ),
    ("train", "model.lora.rank=4 model.lora.target_modules=[]", "model.lora.target_modules=[]", "say q_proj"),
    ("train", "task.data.source=file", "task.data.source=file", "add task.data.path=<file>"),
    ("pretrain", "careful=0.9 guess=0.9", "(0.9, 0.9)", "add up to at most 1"),
]


@pytest.mark.parametrize(("entry", "overrides", "parts"), [(e, o, p) for e, o, *p in MISTAKES])
def test_a_mistake_names_the_value_and_the_fix(entry, overrides, parts):
    line = told(entry, *overrides.split())
    assert "\n" not in line
    assert all(part in line for part in parts), line


@pytest.mark.parametrize(
    ("entry", "arguments", "parts"),
    [
        ("train", ["sampler.gama=0.1"], ["sampler.gama", "did you mean gamma?"]),
        ("evaluate", ["checkpoint=nowhere"], ["checkpoint=nowhere", "no such folder; give a run folder"]),
    ],
)
def test_a_mistake_exits_with_code_2_and_one_line_on_stderr(entry, arguments, parts, tmp_path):
    command = [sys.executable, "-m", f"stp.{entry}", *arguments]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=300)
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ") and all(part in line for part in parts)
