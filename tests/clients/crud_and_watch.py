"""CRUD and watch of pods and ReplicationControllers with the official Python client."""

import threading

from kubernetes import client, config, watch
from kubernetes.client.rest import ApiException

config.load_kube_config()
core = client.CoreV1Api()
NAMESPACE = "default"


def controller(replicas):
    return client.V1ReplicationController(
        metadata=client.V1ObjectMeta(name="py"),
        spec=client.V1ReplicationControllerSpec(
            replicas=replicas,
            selector={"app": "py"},
            template=client.V1PodTemplateSpec(
                metadata=client.V1ObjectMeta(labels={"app": "py"}),
                spec=client.V1PodSpec(containers=[client.V1Container(name="web", image="nginx")]),
            ),
        ),
    )


def until_ready(count):
    start = core.read_namespaced_replication_controller("py", NAMESPACE)
    if (start.status.ready_replicas or 0) == count:
        return
    stream = watch.Watch().stream(
        core.list_namespaced_replication_controller,
        NAMESPACE,
        field_selector="metadata.name=py",
        resource_version=start.metadata.resource_version,
        timeout_seconds=20,
    )
    for event in stream:
        if (event["object"].status.ready_replicas or 0) == count:
            return
    raise AssertionError(f"never {count} ready")


seen = []


def observe():
    stream = watch.Watch().stream(core.list_namespaced_pod, NAMESPACE, label_selector="app=py", timeout_seconds=15)
    for event in stream:
        seen.append((event["type"], event["object"].metadata.name))
        if event["type"] == "DELETED" and len({name for kind, name in seen if kind == "DELETED"}) == 3:
            return


observer = threading.Thread(target=observe)
observer.start()

created = core.create_namespaced_replication_controller(NAMESPACE, controller(3))
assert created.spec.replicas == 3 and created.metadata.uid
until_ready(3)

pods = core.list_namespaced_pod(NAMESPACE, label_selector="app=py").items
assert len(pods) == 3 and all(pod.status.phase == "Running" for pod in pods)
first = core.list_namespaced_pod(NAMESPACE, label_selector="app=py", limit=2)
assert len(first.items) == 2 and first.metadata._continue
rest = core.list_namespaced_pod(NAMESPACE, label_selector="app=py", limit=2, _continue=first.metadata._continue)
assert len(rest.items) == 1 and not rest.metadata._continue

core.patch_namespaced_replication_controller_scale("py", NAMESPACE, {"spec": {"replicas": 1}})
until_ready(1)
assert core.read_namespaced_replication_controller_scale("py", NAMESPACE).spec.replicas == 1

try:
    core.create_namespaced_replication_controller(NAMESPACE, controller(1))
    raise AssertionError("a second one of that name")
except ApiException as error:
    assert error.status == 409 and "already exists" in error.body, error

stale = core.read_namespaced_replication_controller("py", NAMESPACE)
core.patch_namespaced_replication_controller("py", NAMESPACE, {"metadata": {"labels": {"touched": "yes"}}})
stale.metadata.labels = {"touched": "no"}
try:
    core.replace_namespaced_replication_controller("py", NAMESPACE, stale)
    raise AssertionError("a stale write")
except ApiException as error:
    assert error.status == 409, error

core.delete_namespaced_replication_controller("py", NAMESPACE, propagation_policy="Background")
observer.join(20)
kinds = {kind for kind, _ in seen}
assert {"ADDED", "MODIFIED", "DELETED"} <= kinds, seen
assert len({name for kind, name in seen if kind == "DELETED"}) == 3, seen

pod = core.create_namespaced_pod(
    NAMESPACE, {"metadata": {"name": "alone"}, "spec": {"containers": [{"name": "c", "image": "nginx"}]}}
)
assert pod.status.phase == "Pending" and pod.spec.restart_policy == "Always"
core.delete_namespaced_pod("alone", NAMESPACE)
print("all done")
