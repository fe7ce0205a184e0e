"""Fixtures shared by all tests, and how far hypothesis looks."""

import os

import hypothesis

pytest_plugins = ["tests.parallel", "tests.docker_engine", "tests.postgres", "tests.registry", "tests.base_image"]

# CI judges a change, so it tries the same cases twice; everybody's own `make test` looks for new ones.
hypothesis.settings.register_profile("same", derandomize=True, database=None)
if os.environ.get("REQUIRE_ALL") == "1":
    hypothesis.settings.load_profile("same")
