"""What a wheel has: the packages, and configs/ as a folder of the package; pyproject.toml says everything else."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["pipeline*", "jobs*"]), "pipeline.configs"],
    package_dir={"pipeline.configs": "configs"},
)
