"""Package metadata. The ranges below are those that install, import and pass the tests together."""

from pathlib import Path

from setuptools import find_packages, setup

SWEEPS = ["hydra-submitit-launcher>=1.2,<1.3", "hydra-optuna-sweeper>=1.3,<1.4"]

setup(
    name="stp-dllm",
    version="0.1.0",
    description="Reinforcement learning for masked diffusion language models with Spatio-Temporal Pruning",
    long_description=Path("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.11,<3.14",
    packages=[*find_packages(include=["stp", "stp.*"]), "stp.conf"],
    package_dir={"stp": "stp", "stp.conf": "conf"},  # an installed package holds the top-level conf/ as stp/conf
    package_data={"stp.trace": ["trace.html"], "stp.conf": ["*.yaml", "*/*.yaml"], "stp.models": ["tiny_base/*/*"]},
    install_requires=[
        "torch>=2.11,<2.15",
        "transformers>=5.17,<5.25",
        "peft>=0.20,<0.22",
        "deepspeed>=0.19.8,<0.20",
        "hydra-core>=1.3.8,<1.4",
        "omegaconf>=2.3.1,<2.4",
        "wandb>=0.31,<0.32",
        "datasets>=5.2,<6",
        "mpmath>=1.3,<1.5",
        "safetensors>=0.8,<0.9",
        "tokenizers>=0.23.1,<0.24",
        "huggingface-hub>=1.31,<3",
        "matplotlib>=3.10,<4",
        "rich>=14.1,<16",
        "pytest>=8,<10",
    ],
    entry_points={"console_scripts": ["stp = stp.cli:main"]},
    extras_require={
        "gpu": ["bitsandbytes>=0.49,<0.52"],
        "sweeps": SWEEPS,
        "eval": ["lm_eval>=0.4.13,<0.5"],
        "dev": ["ruff>=0.14,<0.17", "mypy>=1.18,<3", "pytest-xdist>=3.8,<4", "hypothesis>=6.100,<7", *SWEEPS],
    },
)
