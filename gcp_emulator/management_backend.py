"""The APIs around the services, put together."""

from __future__ import annotations

from starlette.types import ASGIApp

from gcp_emulator import management
from gcp_emulator.grants import Grants
from gcp_emulator.policies import Policies
from gcp_emulator.projects import Projects, ServiceAccounts
from gcp_emulator.repositories import Repositories, RepositoryApi
from gcp_emulator.run_gpu_checks import Quotas
from gcp_emulator.secret_manager import SecretManager
from gcp_emulator.service_usage import ServiceUsage
from gcp_emulator.twin import Twin


def management_app(twin: Twin) -> ASGIApp:
    settings, state = twin.settings, twin.state
    grants = Grants(state, settings.project_number, settings.service_account)
    policies = Policies(state)
    parts = (
        ServiceUsage(settings, grants, Quotas()),
        Projects(settings, grants, policies),
        ServiceAccounts(settings, grants, policies, state),
        RepositoryApi(settings, grants, policies, Repositories(settings, state, twin.clock)),
        SecretManager(settings, grants, policies),
    )
    return management.create_app(twin, grants, [part.api() for part in parts])
