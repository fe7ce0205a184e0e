"""Fixtures shared by all tests."""

pytest_plugins = ["tests.parallel", "tests.docker_engine", "tests.postgres", "tests.registry", "tests.base_image"]
