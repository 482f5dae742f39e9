"""Server-side apply with the official Python client: creation, shared and contested fields, force, removal; and informers."""

import json
import threading

from kubernetes import client, config, dynamic
from kubernetes.client.rest import ApiException
from kubernetes.dynamic.exceptions import ConflictError
from kubernetes.informer import ADDED, DELETED, MODIFIED, SharedInformer

config.load_kube_config()
core = client.CoreV1Api()
NAMESPACE = "python-apply"
SOON = 20


def settings(data):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": data}


def apply(manager, data, force=False, **more):
    return core.patch_namespaced_config_map(
        "settings",
        NAMESPACE,
        settings(data) | more,
        field_manager=manager,
        force=force,
        _content_type="application/apply-patch+yaml",
    )


def status_of(code, call):
    try:
        call()
    except ApiException as error:
        assert error.status == code, error
        return json.loads(error.body)
    raise AssertionError(f"succeeded, not {code}")


core.create_namespace(client.V1Namespace(metadata=client.V1ObjectMeta(name=NAMESPACE)))

# An informer follows it all.
told = []
arrived = threading.Condition()


def remember(kind):
    def handler(found):
        with arrived:
            told.append((kind, found.metadata.name, dict(found.data or {})))
            arrived.notify_all()

    return handler


def until(*wanted):
    with arrived:
        assert arrived.wait_for(lambda: wanted in told, SOON), (wanted, told)


informer = SharedInformer(core.list_namespaced_config_map, NAMESPACE, field_selector="metadata.name=settings")
for kind in (ADDED, MODIFIED, DELETED):
    informer.add_event_handler(kind, remember(kind))
informer.start()

created = apply("one", {"color": "blue", "size": "1"})
assert created.data == {"color": "blue", "size": "1"}
owner = next(fields for fields in created.metadata.managed_fields if fields.manager == "one")
assert owner.operation == "Apply" and owner.fields_v1["f:data"] == {"f:color": {}, "f:size": {}}, owner
until(ADDED, "settings", {"color": "blue", "size": "1"})
again = apply("one", {"color": "blue", "size": "1"})
assert again.metadata.resource_version == created.metadata.resource_version

apply("two", {"shape": "round", "size": "1"})
conflict = status_of(409, lambda: apply("two", {"color": "red", "shape": "round"}))
assert conflict["reason"] == "Conflict"
assert conflict["details"]["causes"] == [
    {"reason": "FieldManagerConflict", "message": 'conflict with "one"', "field": ".data.color"}
], conflict
assert apply("two", {"color": "red", "shape": "round"}, force=True).data["color"] == "red"
removed = apply("two", {"color": "red"})
assert removed.data == {"color": "red", "size": "1"}, removed.data
until(MODIFIED, "settings", {"color": "red", "size": "1"})
assert "field not declared in schema" in status_of(500, lambda: apply("one", {}, datas={}))["message"]

# The dynamic client knows kinds from discovery only.
every = dynamic.DynamicClient(client.ApiClient())
maps = every.resources.get(api_version="v1", kind="ConfigMap")
try:
    every.server_side_apply(maps, body=settings({"color": "green"}), namespace=NAMESPACE, field_manager="three")
    raise AssertionError("no conflict")
except ConflictError:
    pass
forced = every.server_side_apply(
    maps, body=settings({"color": "green"}), namespace=NAMESPACE, field_manager="three", force_conflicts=True
)
assert forced.data.color == "green"

core.delete_namespaced_config_map("settings", NAMESPACE)
until(DELETED, "settings", {"color": "green", "size": "1"})
assert informer.cache.list() == []
informer.stop()
print("all done")
