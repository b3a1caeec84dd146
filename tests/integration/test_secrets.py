"""Keys in the environment stay there: no file of a run, and nothing it says, holds one."""

from tests.commands import command, environment
from tests.integration.runs import SMALL

SECRETS = {
    "WANDB_API_KEY": "0123456789abcdef0123456789abcdef01234567",
    "HF_TOKEN": "hf_ThisIsNoTokenButLooksLikeOne12345678",
    "HUGGING_FACE_HUB_TOKEN": "hf_AnotherThatLooksLikeOne123456789012",
    "SOME_PASSWORD": "correct-horse-battery-staple",
}
RUN = ["trainer.updates=1", "trainer.checkpoint_every=1", "trainer.eval_size=2", "logging=wandb", "logging.wandb=offline"]


def test_no_file_of_a_run_holds_a_secret(tmp_path):
    settings = {k: v for k, v in environment().items() if not k.startswith("WANDB_")} | SECRETS
    done = command("-m", "stp.train", *SMALL, *RUN, "hydra.run.dir=run", cwd=tmp_path, env=settings)
    assert done.returncode == 0, done.stderr
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    names = {file.name for file in files}
    assert {"config.yaml", "summary.json", "metrics.jsonl", "state.json", "model.safetensors", "hydra.yaml"} <= names
    assert any(name.endswith(".wandb") for name in names) and any("debug" in name for name in names)
    said = {"stdout": done.stdout.encode(), "stderr": done.stderr.encode()}
    for name, content in said.items() | {(str(file), file.read_bytes()) for file in files}:
        for secret in SECRETS.values():
            assert secret.encode() not in content, f"{name} holds a secret"
