"""serviceusage.googleapis.com: which APIs the project has enabled, and what Cloud Run's quotas are.

https://cloud.google.com/service-usage/docs/reference/rest
"""

from __future__ import annotations

from collections.abc import Iterable

from gcp_emulator.grants import APIS, Grants
from gcp_emulator.management import Api, Asked, Handler, Json
from gcp_emulator.rest_rules import Rule
from gcp_emulator.run_errors import Refused
from gcp_emulator.run_gpu_checks import Quotas
from gcp_emulator.settings import Settings

HOST = "serviceusage.googleapis.com"
_USAGE = "google.api.serviceusage.v1.ServiceUsage."
_QUOTAS = "google.api.serviceusage.v1beta1.ServiceUsage."
_SERVICE = "projects/*/services/*"
_RULES = (
    Rule("GET", "/v1/{parent=projects/*}/services", f"{_USAGE}ListServices"),
    Rule("GET", "/v1/{parent=projects/*}/services:batchGet", f"{_USAGE}BatchGetServices"),
    Rule("POST", "/v1/{parent=projects/*}/services:batchEnable", f"{_USAGE}BatchEnableServices"),
    Rule("GET", f"/v1/{{name={_SERVICE}}}", f"{_USAGE}GetService"),
    Rule("POST", f"/v1/{{name={_SERVICE}}}:enable", f"{_USAGE}EnableService"),
    Rule("POST", f"/v1/{{name={_SERVICE}}}:disable", f"{_USAGE}DisableService"),
    Rule("GET", f"/v1beta1/{{parent={_SERVICE}}}/consumerQuotaMetrics", f"{_QUOTAS}ListConsumerQuotaMetrics"),
)


class ServiceUsage:
    def __init__(self, settings: Settings, grants: Grants, quotas: Quotas) -> None:
        self._settings = settings
        self._grants = grants
        self._quotas = quotas

    def api(self) -> Api:
        handlers: dict[str, Handler] = {
            f"{_USAGE}ListServices": self.list,
            f"{_USAGE}BatchGetServices": self.batch_get,
            f"{_USAGE}BatchEnableServices": self.batch_enable,
            f"{_USAGE}GetService": self.get,
            f"{_USAGE}EnableService": self.enable,
            f"{_USAGE}DisableService": self.disable,
            f"{_QUOTAS}ListConsumerQuotaMetrics": self.quotas,
        }
        return Api(HOST, _RULES, handlers)

    def list(self, asked: Asked) -> Json:
        self._check("serviceusage.services.list", asked.fields["parent"])
        wanted = asked.query.get("filter", "").replace(" ", "").removeprefix("state:")
        if wanted not in ("", "ENABLED", "DISABLED"):
            raise Refused("INVALID_ARGUMENT", f"Invalid filter: {asked.query.get('filter')}.")
        found = [self._service(name) for name in sorted(APIS)]
        return {"services": [one for one in found if wanted in ("", one["state"])]}

    def batch_get(self, asked: Asked) -> Json:
        self._check("serviceusage.services.get", asked.fields["parent"])
        return {"services": [self._service(self._api(name)) for name in asked.query.getlist("names")]}

    def get(self, asked: Asked) -> Json:
        self._check("serviceusage.services.get", asked.fields["name"])
        return self._service(self._api(asked.fields["name"]))

    def enable(self, asked: Asked) -> Json:
        return self._enabled(asked.fields["name"], [asked.fields["name"]])

    def batch_enable(self, asked: Asked) -> Json:
        return self._enabled(asked.fields["parent"], [f"/{name}" for name in asked.body.get("serviceIds") or ()])

    def disable(self, asked: Asked) -> Json:
        self._check("serviceusage.services.disable", asked.fields["name"])
        api = self._api(asked.fields["name"])
        self._grants.disable([*self._grants.disabled, api])
        return _done({"service": self._service(api)})

    def quotas(self, asked: Asked) -> Json:
        """Of Cloud Run: as much as it holds a service against."""
        self._check("serviceusage.quotas.get", asked.fields["parent"])
        if self._api(asked.fields["parent"]) != "run.googleapis.com":
            return {}
        rows = {
            "cpu_allocation": self._quotas.cpu,
            "mem_allocation": self._quotas.memory,
            "nvidia_l4_gpu_allocation": self._quotas.zonal_gpus,
            "nvidia_l4_gpu_allocation_no_zonal_redundancy": self._quotas.gpus,
            "nvidia_rtx_pro_6000_gpu_allocation_no_zonal_redundancy": self._quotas.gpus * _MILLI,
        }
        return {"metrics": [self._metric(name, limit) for name, limit in rows.items()]}

    def _enabled(self, about: str, names: Iterable[str]) -> Json:
        self._check("serviceusage.services.enable", about)
        apis = [self._api(name) for name in names]
        self._grants.disable([name for name in self._grants.disabled if name not in apis])
        shown = [self._service(api) for api in apis]
        return _done({"services": shown, "service": shown[0]} if len(shown) == 1 else {"services": shown})

    def _metric(self, name: str, limit: int) -> Json:
        """One regional limit; its bucket without dimensions is for every region that has none of its own."""
        metric, number = f"run.googleapis.com/{name}", self._settings.project_number
        full = f"projects/{number}/services/run.googleapis.com/consumerQuotaMetrics/{metric.replace('/', '%2F')}"
        bucket = {"effectiveLimit": str(limit), "defaultLimit": str(limit)}
        row = {
            "name": f"{full}/limits/%2Fproject%2Fregion",
            "metric": metric,
            "unit": "1/{project}/{region}",
            "quotaBuckets": [bucket],
        }
        return {"name": full, "metric": metric, "displayName": name.replace("_", " "), "consumerQuotaLimits": [row]}

    def _service(self, api: str) -> Json:
        return {
            "name": f"projects/{self._settings.project_number}/services/{api}",
            "config": {"name": api, "title": APIS[api]},
            "state": "DISABLED" if api in self._grants.disabled else "ENABLED",
            "parent": f"projects/{self._settings.project_number}",
        }

    def _check(self, permission: str, resource: str) -> None:
        """Raises Refused: another project, or it may not be asked."""
        project = resource.split("/")[1]
        if project not in (self._settings.project, self._settings.project_number):
            raise Refused("PERMISSION_DENIED", f"Permission denied to get services of container [projects/{project}]")
        self._grants.check(permission, f"projects/{self._settings.project}")

    def _api(self, name: str) -> str:
        api = name.rsplit("/", 1)[-1]
        if api not in APIS:
            raise Refused("NOT_FOUND", f"Service '{api}' not found or permission denied.")
        return api


_MILLI = 1000
"""The newer GPUs' quota is counted in thousandths."""


def _done(response: Json) -> Json:
    return {"name": "operations/noop.DONE_OPERATION", "done": True, "response": response}
